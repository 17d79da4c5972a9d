/** What the server says. */
import { useEffect, useState } from 'preact/hooks';
import type {
  Drawing,
  DrawRequest,
  FormField,
  PageModel,
  RunDataView,
  RunDetail,
  RunSeries,
  RunSummary,
  RunsEvent,
  SnapshotDetail,
  StudioInfo,
  TrainingStart,
} from '../../patch-diffusion/src/studio/api';

export type {
  Columns,
  Drawing,
  DrawnPatch,
  FormField,
  NoiseLosses,
  OptionValue,
  RunDataView,
  RunDetail,
  RunSeries,
  RunState,
  RunSummary,
  StampedFile,
  StudioInfo,
  TrainingStart,
  XAxis,
} from '../../patch-diffusion/src/studio/api';

/** @throws Error with the server's words */
async function ask<T>(path: string, init: RequestInit): Promise<T> {
  const response = await fetch(path, init);
  if (response.status === 204) return undefined as T;
  if (response.ok) return (await response.json()) as T;
  const body = (await response.json().catch(() => null)) as { error?: string } | null;
  throw new Error(body?.error ?? `the server answered ${response.status} ${response.statusText}`);
}

const get = <T>(path: string, signal?: AbortSignal) => ask<T>(path, { signal });

const runPath = (id: string) => `/api/runs/${encodeURIComponent(id)}`;

export const getInfo = () => get<StudioInfo>('/api/info');

const getDetail = (id: string, signal?: AbortSignal) => get<RunDetail>(runPath(id), signal);

const seriesPath = (id: string, query: Record<string, string>) =>
  `${runPath(id)}/series?${new URLSearchParams(query)}`;

/** Answers that are under way before anything asks for them, by their addresses. */
const early = new Map<string, Promise<RunSeries>>();

/** Asks for curves that {@link getSeries} will be asked for soon. */
export function askSeriesEarly(id: string, query: Record<string, string>): void {
  const path = seriesPath(id, query);
  const answer = get<RunSeries>(path);
  // What went wrong is said to who takes the answer.
  answer.catch(() => {});
  early.set(path, answer);
}

export function getSeries(
  id: string,
  query: Record<string, string>,
  signal: AbortSignal,
): Promise<RunSeries> {
  const path = seriesPath(id, query);
  const asked = early.get(path);
  early.delete(path);
  return asked ?? get<RunSeries>(path, signal);
}

export const getSnapshot = (id: string, name: string, signal: AbortSignal) =>
  get<SnapshotDetail>(`${runPath(id)}/snapshots/${encodeURIComponent(name)}`, signal);

export const getData = (id: string, seed: number, signal: AbortSignal) =>
  get<RunDataView>(`${runPath(id)}/data?seed=${seed}`, signal);

export const dataImagePath = (id: string, image: number) => `${runPath(id)}/data/${image}.png`;

export const startDrawing = (request: DrawRequest) =>
  ask<Drawing>('/api/drawings', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(request),
  });

/** The snapshot as an ONNX model, which may have to be exported first. */
export const getPageModel = (run: string, snapshot: string, signal: AbortSignal) =>
  ask<PageModel>('/api/models', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ run, snapshot }),
    signal,
  });

export const cancelDrawing = (id: number) => ask<void>(`/api/drawings/${id}`, { method: 'DELETE' });

export const drawingPath = (id: number) => `/api/drawings/${id}/sheet.png`;

const post = (path: string, body: unknown) =>
  ask<void>(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });

export const getTrainForm = () => get<readonly FormField[]>('/api/train-form');
export const startTraining = (options: Readonly<Record<string, string>>) => post('/api/trainings', options);
export const stopTraining = (id: string) => post(`${runPath(id)}/stop`, {});
export const resumeTraining = (id: string) => post(`${runPath(id)}/resume`, {});

export const sheetPath = (id: string, name: string) => `${runPath(id)}/samples/${encodeURIComponent(name)}`;

export const nearestPath = (id: string, name: string) => `${runPath(id)}/nearest/${encodeURIComponent(name)}`;

export interface LiveRuns {
  /** Newest first; null before the server has answered. */
  readonly runs: readonly RunSummary[] | null;
  readonly problem: string | null;
  /** Newest first. */
  readonly drawings: readonly Drawing[];
  /** The same. */
  readonly trainings: readonly TrainingStart[];
  readonly isConnected: boolean;
}

/** The runs, as they change. */
export function useRuns(): LiveRuns {
  const [live, setLive] = useState<LiveRuns>({
    runs: null,
    problem: null,
    drawings: [],
    trainings: [],
    isConnected: false,
  });
  useEffect(() => {
    const known = new Map<string, RunSummary>();
    const source = new EventSource('/api/events');
    const take = ({ data }: MessageEvent<string>) => {
      const { changed, removed, problem } = JSON.parse(data) as RunsEvent;
      for (const run of changed) known.set(run.id, run);
      for (const id of removed) known.delete(id);
      const runs = [...known.values()].sort((a, b) => b.id.localeCompare(a.id, 'en', { numeric: true }));
      setLive((before) => ({ ...before, runs, problem, isConnected: true }));
    };
    source.addEventListener('all', (message) => {
      known.clear();
      take(message);
    });
    source.addEventListener('changes', take);
    source.addEventListener('drawings', ({ data }: MessageEvent<string>) => {
      setLive((before) => ({ ...before, drawings: JSON.parse(data) as Drawing[] }));
    });
    source.addEventListener('trainings', ({ data }: MessageEvent<string>) => {
      setLive((before) => ({ ...before, trainings: JSON.parse(data) as TrainingStart[] }));
    });
    // The browser connects again by itself.
    source.onerror = () => setLive((before) => ({ ...before, isConnected: false }));
    return () => source.close();
  }, []);
  return live;
}

/** Details of runs, read again when a run changes. */
export function useDetails(runs: readonly RunSummary[]): ReadonlyMap<string, RunDetail> {
  const [details, setDetails] = useState<ReadonlyMap<string, RunDetail>>(new Map());
  const revisions = runs.map(({ id, revision }) => `${id} ${revision}`).join();
  useEffect(() => {
    const controller = new AbortController();
    for (const { id } of runs) {
      getDetail(id, controller.signal).then(
        (detail) => setDetails((before) => new Map(before).set(id, detail)),
        () => {}, // gone or not reachable: the banner says so
      );
    }
    return () => controller.abort();
  }, [revisions]);
  return details;
}
