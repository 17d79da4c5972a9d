/** Compares what commands wrote with what they write when nothing happens to them. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** All files below a folder, with `/` between the parts of their paths. */
export function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(folder, name)).isFile())
    .sort();
}

/** What differs between two folders; files are compared byte by byte. */
export function folderDifference(folder: string, expected: string): string | null {
  const [here, there] = [filesBelow(folder), filesBelow(expected)];
  if (here.join() !== there.join()) return listDifference(here, there);
  const other = here.find(
    (name) => !readFileSync(join(folder, name)).equals(readFileSync(join(expected, name))),
  );
  return other === undefined ? null : `${other} has other contents`;
}

function listDifference(here: readonly string[], there: readonly string[]): string {
  const missing = there.filter((name) => !here.includes(name));
  const extra = here.filter((name) => !there.includes(name));
  return [
    ...(missing.length ? [`without ${missing.join(', ')}`] : []),
    ...(extra.length ? [`left over: ${extra.join(', ')}`] : []),
  ].join('; ');
}

/** What a run says of the time that it took, and of where it lies, differs by nature. */
const VOLATILE = ['earlierSec', 'earlierCpuSec', 'sha256', 'train'];

/** Header and tensors of a safetensors file, without {@link VOLATILE}. */
function tensorFile(path: string): { header: string; data: Buffer } {
  const bytes = readFileSync(path);
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, end)) as { __metadata__: { patch_diffusion: string } };
  const description: unknown = JSON.parse(header.__metadata__.patch_diffusion);
  const all = { ...header, __metadata__: { ...header.__metadata__, patch_diffusion: description } };
  const text = JSON.stringify(all, (key, value: unknown) => (VOLATILE.includes(key) ? undefined : value));
  return { header: text, data: bytes.subarray(end) };
}

function sameTensors(a: string, b: string): boolean {
  const [x, y] = [tensorFile(a), tensorFile(b)];
  return x.header === y.header && x.data.equals(y.data);
}

const kimgOf = (run: string): string =>
  readFileSync(join(run, 'stats.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { 'Progress/kimg': { mean: number } })['Progress/kimg'].mean)
    .join();

/** Files beside those of an uninterrupted run that say what happened. */
const isRecord = (name: string): boolean => /^superseded\/|\.damaged$/.test(name);

/**
 * What differs between a run and one that nothing happened to: files, their contents bit for bit, the lines of its
 * statistics. Null where nothing does.
 * @param onlyEnd whether only the last state, snapshot and sheet count: a signal adds files at the time that it comes
 */
export function runDifference(run: string, expected: string, onlyEnd = false): string | null {
  if (!existsSync(join(run, 'run.json'))) return 'there is no run.json';
  const { status } = JSON.parse(readFileSync(join(run, 'run.json'), 'utf8')) as { status: string };
  if (status !== 'done') return `its status is ${status}`;
  const there = filesBelow(expected);
  const here = filesBelow(run).filter((name) => !isRecord(name));
  const extra = here.filter((name) => !there.includes(name));
  const leftOver = onlyEnd ? extra.filter((name) => /\.tmp$|^lock/.test(name)) : extra;
  if (leftOver.length) return `left over: ${leftOver.join(', ')}`;
  const compared = onlyEnd ? lastOfEach(there) : there;
  const missing = compared.filter((name) => !here.includes(name));
  if (missing.length) return `without ${missing.join(', ')}`;
  const other = compared.find((name) => {
    const [a, b] = [join(run, name), join(expected, name)];
    if (name.endsWith('.safetensors'))
      return onlyEnd ? !tensorFile(a).data.equals(tensorFile(b).data) : !sameTensors(a, b);
    return name.endsWith('.png') && !readFileSync(a).equals(readFileSync(b));
  });
  if (other !== undefined) return `${other} has other contents`;
  if (!onlyEnd && kimgOf(run) !== kimgOf(expected))
    return `stats.jsonl has ${kimgOf(run)}, not ${kimgOf(expected)}`;
  return null;
}

/** The newest file of each folder. */
function lastOfEach(names: readonly string[]): string[] {
  const last = new Map(names.map((name) => [name.split('/')[0], name]));
  return [...last.values()];
}
