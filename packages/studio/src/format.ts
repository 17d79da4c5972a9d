/** Figures for people. */

const NONE = '–';

/** 12 s · 3 m 05 s · 2 h 03 m · 1 d 02 h */
export function duration(sec: number | null): string {
  if (sec === null || !Number.isFinite(sec)) return NONE;
  const s = Math.round(sec);
  const two = (n: number) => String(n).padStart(2, '0');
  const [m, h, d] = [Math.floor(s / 60), Math.floor(s / 3600), Math.floor(s / 86_400)];
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${m} m ${two(s % 60)} s`;
  if (s < 86_400) return `${h} h ${two(m % 60)} m`;
  return `${d} d ${two(h % 24)} h`;
}

/** Four significant digits; very large and small ones with an exponent. */
export function figure(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(2);
  if (size >= 1000) return Math.round(value).toLocaleString('en-US');
  return String(Number(value.toPrecision(4)));
}

export function kimg(value: number): string {
  return `${figure(value)} kimg`;
}

/** Date and time where the reader is; the year only where it is another one. */
export function dateTime(iso: string): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return NONE;
  const isThisYear = date.getFullYear() === new Date().getFullYear();
  return date.toLocaleString(undefined, {
    ...(isThisYear ? {} : { year: 'numeric' }),
    ...{ month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit' },
  });
}
