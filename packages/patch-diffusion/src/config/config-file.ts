/** Config files: JSON or YAML with the option names as keys. `run.json` of an earlier run is accepted too. */

import { readFile } from 'node:fs/promises';
import { usageError } from '../common/errors.js';
import type { OptionSources } from './read-values.js';

const usage = (message: string) => usageError('BAD_CONFIG_FILE', message);

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
    value = file.endsWith('.json')
      ? JSON.parse(text)
      : (await import('yaml')).parse(text, { logLevel: 'error' });
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
  // This is a new run, even where that one was resumed.
  const { resume, ...config } = record.config as Record<string, unknown>;
  return config;
}

/** The config file that `--config` names, as a source of options; undefined when there is none. */
export async function configSource(file: unknown): Promise<OptionSources['file']> {
  return typeof file === 'string' ? { name: file, values: await readConfigFile(file) } : undefined;
}
