/** The framing of event files, and what happens where they cannot be written. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EventFile } from '../../src/formats/tensorboard/event-file.js';
import { crc32c, decodeRecords, encodeRecord } from '../../src/formats/tensorboard/records.js';
import { readEvents } from '../helpers/events.js';
import { temporaryFolder } from '../helpers/tiny-run.js';

describe('records', () => {
  it('have the checksum of RFC 3720, appendix B.4', () => {
    const ascending = Uint8Array.from({ length: 32 }, (_, i) => i);
    expect(crc32c(new Uint8Array(32))).toBe(0x8a9136aa);
    expect(crc32c(new Uint8Array(32).fill(255))).toBe(0x62a8ab43);
    expect(crc32c(ascending)).toBe(0x46dd794e);
    expect(crc32c(ascending.toReversed())).toBe(0x113fdb5c);
  });

  it('are read up to where a file is cut off or damaged', () => {
    const contents = fc.array(fc.uint8Array({ maxLength: 40 }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(contents, fc.nat(), fc.boolean(), (parts, at, isCut) => {
        const records = parts.map(encodeRecord);
        const file = Buffer.concat(records);
        const place = at % file.length;
        const damaged = isCut ? file.subarray(0, place) : Buffer.from(file);
        if (!isCut) damaged[place] ^= 1;
        const ends = records.map((_, i) => Buffer.concat(records.slice(0, i + 1)).length);
        const whole = parts.filter((_, i) => ends[i] <= place).map((part) => Buffer.from(part));
        expect([...decodeRecords(damaged)].map((record) => record.contents)).toEqual(whole);
        expect([...decodeRecords(file)].map(({ end }) => end)).toEqual(ends);
      }),
    );
  });
});

describe('EventFile', () => {
  it('writes everything once the disk takes it again', async () => {
    const folder = join(await temporaryFolder(), 'later');
    const path = join(folder, 'events.out.tfevents.1000000000.here.1.0');
    const file = new EventFile(path);
    file.add({ step: 1n });
    await expect(file.flush()).rejects.toMatchObject({ code: 'ENOENT' });
    file.add({ step: 2n });
    await mkdir(folder);
    await file.flush();
    await file.flush();
    await file.close();
    expect((await readEvents(path)).map(({ step }) => Number(step))).toEqual([0, 1, 2]);
  });

  it('never replaces a file', async () => {
    const path = join(await temporaryFolder(), 'events.out.tfevents.1000000000.here.1.0');
    await writeFile(path, 'of another');
    await expect(new EventFile(path).flush()).rejects.toMatchObject({ code: 'EEXIST' });
    expect(await readFile(path, 'utf8')).toBe('of another');
  });
});
