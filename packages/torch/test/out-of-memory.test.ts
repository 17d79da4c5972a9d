import { expect, it } from 'vitest';
import * as torch from '../src/index.js';

/** A file of its own: a process keeps its limit. */
it.skipIf(process.platform !== 'linux')(
  'no room for a copy of a tensor is an error, not the end',
  async () => {
    const x = torch.zeros([2 ** 27]); // 512 MiB
    const { VmData } = await memoryUse();
    expect(torch.limitMemory(VmData + 256 * 2 ** 20)).toBe(true);
    const noRoom = expect.objectContaining({ code: 'ERR_TORCH_MEMORY' });
    expect(() => x.toTypedArray()).toThrow(noRoom);
    expect(() => x.toFloat32Array()).toThrow(noRoom);
    await expect(x.readback()).rejects.toThrow(noRoom);
    expect(() => x.add(1)).toThrow(noRoom);
    x.dispose();
    expect(torch.zeros([2 ** 20]).toTypedArray()).toHaveLength(2 ** 20);
  },
);

async function memoryUse(): Promise<{ VmData: number }> {
  const { readFile } = await import('node:fs/promises');
  const status = await readFile('/proc/self/status', 'utf8');
  return { VmData: Number(/^VmData:\s+(\d+) kB/m.exec(status)![1]) * 1024 };
}
