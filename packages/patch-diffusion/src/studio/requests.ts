/** What requests name, looked up. */
import { basename } from 'node:path';
import type { Context } from 'hono';
import { HTTPException } from 'hono/http-exception';
import type { z } from 'zod';
import { listSnapshots } from '../run/runs.js';
import type { Catalogue } from './catalogue.js';

export const notFound = (message: string) => new HTTPException(404, { message });

/** The run in the address. @throws HTTPException where there is none */
export function runOf(c: Context, catalogue: Catalogue): { id: string; dir: string } {
  const id = c.req.param('id') ?? '';
  return { id, dir: folderOf(id, catalogue) };
}

/** @throws HTTPException where there is no such run */
export function folderOf(id: string, catalogue: Catalogue): string {
  const dir = catalogue.dirOf(id);
  if (dir === null) throw notFound(`there is no run ${id}`);
  return dir;
}

/** The body of a request that changes something: JSON, which no form of another site can send. */
export async function bodyOf<T>(c: Context, schema: z.ZodType<T>): Promise<T> {
  const isJson = /^application\/json\b/.test(c.req.header('content-type') ?? '');
  if (!isJson) throw new HTTPException(415, { message: 'send JSON' });
  const { success, data, error } = schema.safeParse(await c.req.json().catch(() => null));
  if (success) return data;
  const where = error.issues[0].path.join('.') || 'the request';
  throw new HTTPException(400, { message: `${where} is missing or of another type` });
}

/** A number in the query; undefined where there is none. @throws HTTPException where it is out of range */
export function numberIn(c: Context, name: string, min: number, max: number): number | undefined {
  const text = c.req.query(name);
  if (text === undefined) return undefined;
  const value = text.trim() === '' ? Number.NaN : Number(text);
  if (value >= min && value <= max) return value;
  throw new HTTPException(400, { message: `${name}=${text} must be a number from ${min} to ${max}` });
}

/** Path of a snapshot, looked up among the run's own files: a name never becomes a path. @throws HTTPException where there is none */
export async function snapshotIn(dir: string, name: string): Promise<string> {
  const file = (await listSnapshots(dir)).find((one) => basename(one) === name);
  if (file === undefined) throw notFound(`there is no snapshot ${name}`);
  return file;
}
