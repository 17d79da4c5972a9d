/** `studio` and `train --studio` as commands. */

import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runCli, startCli } from '../helpers/cli.js';
import { makeRun } from '../helpers/studio-runs.js';
import { iconSet, temporaryFolder, tinyFlags } from '../helpers/tiny-run.js';

const URL_TEXT = /http:\/\/127\.0\.0\.1:\d+\//;

describe('studio', () => {
  it('serves runs where there is no libtorch, says which port it took, and ends with Ctrl-C', async () => {
    const runs = await temporaryFolder();
    await makeRun(runs, '00000-icons');
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const env = { LIBTORCH: '/nowhere', TORCH_ADDON: '/nowhere/addon.node' };
    let output = '';
    const studio = startCli(['studio', runs, '--port', String(port)], {
      env,
      onOutput: (text) => {
        output = text;
      },
    });
    await studio.until(URL_TEXT);
    expect(output).toMatch(`port ${port} is in use; using `);
    const response = await fetch(`${URL_TEXT.exec(output)![0]}api/runs/00000-icons/series`);
    expect(Object.keys((await response.json()).columns)).toContain('Loss/loss');
    // An open page does not keep it alive.
    await fetch(`${URL_TEXT.exec(output)![0]}api/events`);
    studio.child.kill('SIGINT');
    expect((await studio.end).code).toBe(0);
    taken.close();
  });

  it('says what is wrong with the folder', async () => {
    const { code, stderr } = await runCli(['studio', '/nowhere/runs']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: \/nowhere\/runs is not a folder; name the one that holds your runs/);
  });
});

describe('train --studio', () => {
  it('shows the run while it trains, and ends with it', async () => {
    const folder = await temporaryFolder();
    const data = await iconSet(folder);
    const runs = join(folder, 'runs');
    let output = '';
    const training = startCli(
      ['train', '--studio', '--data', data, '--out', runs, '--duration-kimg', '1000', ...tinyFlags],
      {
        onOutput: (text) => {
          output = text;
        },
      },
    );
    await training.until(URL_TEXT);
    const url = URL_TEXT.exec(output)![0];
    expect((await fetch(`${url}api/runs/00000-icons`)).status).toBe(200);
    training.child.kill('SIGINT');
    const { code, stdout } = await training.end;
    expect(code).toBe(130);
    expect(stdout).toBe('');
    await expect
      .poll(() =>
        fetch(url).then(
          () => 'answers',
          () => 'gone',
        ),
      )
      .toBe('gone');
  });
});
