/** Bundles the golden tests, which are TypeScript on top of vitest, into modules that Node runs as they are. */
import { join } from 'node:path';
import { rolldown } from 'rolldown';
import { GOLDEN_FOLDERS } from './golden-folders.js';

const ENTRY = 'gpu-check:';

/** Writes `<out>/<folder>.mjs`, which exports the tests of that folder of vectors. */
export async function bundleGoldenTests(root: string, out: string): Promise<void> {
  const collected = join(root, 'benchmarks/dist/gpu-check/collected-tests.js');
  const testOf = (folder: string): string =>
    join(root, 'packages/patch-diffusion/test/golden', `${folder}.test.ts`);
  for (const folder of GOLDEN_FOLDERS) {
    const bundler = await rolldown({
      input: { [folder]: ENTRY + folder },
      platform: 'node',
      // What it warns of is checked by tsc.
      logLevel: 'silent',
      external: /^(node:|@patch-diffusion\/torch)/,
      resolve: { extensionAlias: { '.js': ['.ts', '.js'] } },
      plugins: [
        {
          name: 'collected-tests',
          resolveId: (id) => (id === 'vitest' ? collected : id.startsWith(ENTRY) ? id : null),
          load: (id) =>
            id.startsWith(ENTRY)
              ? `import ${JSON.stringify(testOf(id.slice(ENTRY.length)))};\nexport { tests } from ${JSON.stringify(collected)};`
              : null,
        },
      ],
    });
    await bundler.write({
      dir: out,
      ...{ format: 'esm', codeSplitting: false, entryFileNames: '[name].mjs' },
    });
    await bundler.close();
  }
}
