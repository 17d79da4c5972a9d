/** The files of the pages, as Vite has built them. All are in memory: a request cannot name any other file. */
import { readdir, readFile } from 'node:fs/promises';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UserError } from '../common/errors.js';

/** The same place for sources and for what they are built to. */
const FOLDER = fileURLToPath(new URL('../../dist/studio-page/', import.meta.url));

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

export interface PageFile {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly type: string;
  /** Its name has a hash of its contents. */
  readonly isFixed: boolean;
}

/** All files by their path in the address. @throws UserError where the pages were not built */
export async function readPageFiles(): Promise<Map<string, PageFile>> {
  const names = await readdir(FOLDER, { recursive: true }).catch(() => []);
  const files = names.filter((name) => extname(name) in TYPES);
  if (!files.includes('index.html'))
    throw new UserError('NO_PAGES', `the pages of the studio are not built; run npm run build`);
  const read = files.map(async (name): Promise<[string, PageFile]> => {
    const bytes = new Uint8Array(await readFile(join(FOLDER, name)));
    const path = name.replaceAll('\\', '/');
    return [`/${path}`, { bytes, type: TYPES[extname(name)], isFixed: path.startsWith('assets/') }];
  });
  return new Map(await Promise.all(read));
}
