/** Writes a state dict that Python's `torch.load(file, weights_only=True)` reads. */
import { basename } from 'node:path';
import { type DType, type Tensor, writeFileAtomic } from '@patch-diffusion/torch';
import { type Member, zipArchive } from '../zip-writer.js';
import { pickleStateDict, type StateDictEntry } from './pickle-writer.js';
import { elementTypes } from './tensors.js';

/** As `torch.save` lays out its data, so that the file can be mapped into memory. */
const ALIGNMENT = 64;

/**
 * Writes tensors with their names; the file appears whole or not at all. The tensors must stay alive and unchanged
 * until the promise settles; one at a time is copied.
 * @throws FileWriteError if the file system refuses
 */
export async function writeStateDict(file: string, tensors: ReadonlyMap<string, Tensor>): Promise<void> {
  const list = [...tensors];
  const entries = list.map(
    ([name, { dtype, shape }], key): StateDictEntry => ({ name, key, storage: storageOf(dtype), shape }),
  );
  const folder = basename(file).replace(/\.[^.]*$/, '') || 'archive';

  async function* members(): AsyncGenerator<Member> {
    const utf8 = (value: string) => Buffer.from(value);
    yield { name: `${folder}/data.pkl`, data: pickleStateDict(entries) };
    yield { name: `${folder}/byteorder`, data: utf8('little') };
    for (const [key, [, tensor]] of list.entries()) {
      const { buffer, byteOffset, byteLength } = await tensor.readback();
      yield { name: `${folder}/data/${key}`, data: new Uint8Array(buffer, byteOffset, byteLength) };
    }
    yield { name: `${folder}/version`, data: utf8('3\n') };
  }
  await writeFileAtomic(file, zipArchive(members(), { alignment: ALIGNMENT }));
}

function storageOf(dtype: DType): string {
  for (const [storage, type] of elementTypes) if (type.dtype === dtype) return storage;
  throw new Error(`internal: no storage type for ${dtype}`);
}
