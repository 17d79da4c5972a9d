/** What is shown, as the part of the address behind #: it can be copied, and the browser's Back works. */
import { useEffect, useState } from 'preact/hooks';
import type { XAxis } from './server';

export const PAGES = ['runs', 'curves', 'samples', 'data', 'options', 'generate', 'train'] as const;
export type Page = (typeof PAGES)[number];

export interface Route {
  readonly page: Page;
  /** Selected runs; null: nothing was selected yet. */
  readonly runs: readonly string[] | null;
  readonly x: XAxis;
  readonly smoothing: number;
  readonly logX: boolean;
  readonly logY: boolean;
}

const AXES: readonly XAxis[] = ['kimg', 'step', 'time', 'clock'];

export function parseRoute(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?');
  const values = new URLSearchParams(query);
  const runs = values.get('runs');
  const smoothing = Number(values.get('smooth') ?? 0.6);
  return {
    page: PAGES.find((page) => page === path) ?? 'runs',
    runs: runs === null ? null : runs.split(',').filter((id) => id !== ''),
    x: AXES.find((x) => x === values.get('x')) ?? 'kimg',
    smoothing: smoothing >= 0 && smoothing < 1 ? smoothing : 0.6,
    logX: values.get('logx') === '1',
    logY: values.get('logy') === '1',
  };
}

export function hashOf({ page, runs, x, smoothing, logX, logY }: Route): string {
  const values = new URLSearchParams();
  if (runs !== null) values.set('runs', runs.join(','));
  if (x !== 'kimg') values.set('x', x);
  if (smoothing !== 0.6) values.set('smooth', String(smoothing));
  if (logX) values.set('logx', '1');
  if (logY) values.set('logy', '1');
  const query = values.toString().replaceAll('%2C', ',');
  return `#/${page}${query === '' ? '' : `?${query}`}`;
}

/** The route, and a function that changes it; `replace` leaves no step for Back. */
export function useRoute(): [Route, (change: Partial<Route>, replace?: boolean) => void] {
  const [route, setRoute] = useState(() => parseRoute(location.hash));
  useEffect(() => {
    const onChange = () => setRoute(parseRoute(location.hash));
    window.addEventListener('hashchange', onChange);
    return () => window.removeEventListener('hashchange', onChange);
  }, []);
  const change = (part: Partial<Route>, replace = false) => {
    const hash = hashOf({ ...parseRoute(location.hash), ...part });
    if (!replace) location.hash = hash;
    else {
      history.replaceState(null, '', hash);
      setRoute(parseRoute(hash));
    }
  };
  return [route, change];
}
