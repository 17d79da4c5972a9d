/** Config files: JSON or YAML with the option names as keys. `run.json` of an earlier run is accepted too. */

import { readFile } from 'node:fs/promises';
import { UserError } from '../common/errors.js';

const usage = (message: string): UserError => new UserError('BAD_CONFIG_FILE', message, { exitCode: 2 });

/**
 * Reads a config file (`.json`, `.yaml`, `.yml`).
 *
 * @returns its top-level keys; not yet checked
 * @throws {UserError} (exit code 2) when it cannot be read or is not a mapping
 */
export async function readConfigFile(file: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT') throw usage(`config file ${file} does not exist`);
    throw usage(`config file ${file} cannot be read: ${(error as Error).message}`);
  }
  let value: unknown;
  try {
    // YAML 1.2 is a superset of JSON; JSON.parse gives the better message for JSON.
    value = file.endsWith('.json') ? JSON.parse(text) : (await import('yaml')).parse(text);
  } catch (error) {
    throw usage(`config file ${file} is malformed: ${(error as Error).message.split('\n')[0]}`);
  }
  if (value === null || value === undefined) return {};
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw usage(`config file ${file} must be a mapping of option names to values`);
  }
  const record = value as Record<string, unknown>;
  const isRunJson = typeof record.config === 'object' && record.config !== null && 'status' in record;
  if (!isRunJson) return record;
  // Whether that run went on from another one says nothing of this run.
  const { resume, ...config } = record.config as Record<string, unknown>;
  return config;
}

/** The `file` layer for the resolvers, or nothing when no config file was named. */
export async function configLayer(
  file: unknown,
): Promise<{ file?: { name: string; values: Record<string, unknown> } }> {
  return typeof file === 'string' ? { file: { name: file, values: await readConfigFile(file) } } : {};
}
