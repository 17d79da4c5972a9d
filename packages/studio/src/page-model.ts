/** Models that draw in this page: fetched once, kept while the page stays with a snapshot. */
import type * as Browser from '@patch-diffusion/browser';
import { getPageModel } from './server';

export type { PictureData, SampleOptions } from '@patch-diffusion/browser';

/** Where the server has the package. */
const PACKAGE = '/npm/@patch-diffusion/browser/dist/web/index.js';

let current: { readonly key: string; readonly model: Browser.Model } | null = null;

/**
 * The model of a snapshot. The server exports the snapshot where it has not done so before.
 * @param onPhase told what is under way, and how much of it is done (null: not known)
 */
export async function openPageModel(
  run: string,
  snapshot: string,
  {
    signal,
    onPhase,
  }: { readonly signal: AbortSignal; readonly onPhase: (what: string, share: number | null) => void },
): Promise<Browser.Model> {
  const key = `${run}/${snapshot}`;
  if (current?.key === key) return current.model;
  await closePageModel();
  onPhase('Exporting the snapshot', null);
  const { model: address, decoder } = await getPageModel(run, snapshot, signal);
  onPhase('Loading what draws', null);
  const { load } = (await import(/* @vite-ignore */ PACKAGE)) as typeof Browser;
  const model = await load(address, {
    ...(decoder === null ? {} : { decoder }),
    onProgress: (bytes, total) => onPhase('Loading the model', total ? bytes / total : null),
    signal,
  });
  current = { key, model };
  return model;
}

/** Frees its memory. */
export async function closePageModel(): Promise<void> {
  const { model } = current ?? {};
  current = null;
  await model?.dispose();
}
