/** Small charts as one PNG: panels with axes, lines and points with intervals. Lines are SVG; text is drawn by sharp's font. */
import sharp, { type OverlayOptions } from 'sharp';
import { textPng } from '../data/sheet.js';

export interface Line {
  readonly x: readonly number[];
  readonly y: readonly number[];
  readonly colour: string;
  readonly dashed?: boolean;
  /** Marks the points, too. */
  readonly dots?: boolean;
}

/** A value with its interval, at a place on the x axis. */
export interface Mark {
  readonly x: number;
  readonly value: number;
  readonly low: number;
  readonly high: number;
  readonly colour: string;
  /** A grey bar: what real images score. */
  readonly floor: number | null;
}

export interface Panel {
  readonly title: string;
  /** Under the x axis. */
  readonly xLabel: string;
  readonly logX?: boolean;
  readonly lines?: readonly Line[];
  readonly marks?: readonly Mark[];
  /** Names of places on the x axis, in place of numbers. */
  readonly names?: readonly string[];
}

/** A line of the legend. */
export interface Key {
  readonly label: string;
  readonly colour: string;
  readonly dashed?: boolean;
}

/** Colours that are told apart with all common kinds of colour vision (Okabe & Ito). */
export const COLOURS = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000'];

const PANEL = { width: 420, height: 300, left: 64, right: 16, top: 36, bottom: 48 };
const COLUMNS = 3;
const KEY_PX = 24;
const GRID = '#dddddd';

interface Text {
  readonly text: string;
  readonly x: number;
  readonly y: number;
  /** Which part of the text is at x. */
  readonly align: 'left' | 'middle' | 'right';
}

/** Draws panels side by side, three in a row, with a legend below. @returns PNG bytes */
export async function chartPng(panels: readonly Panel[], keys: readonly Key[]): Promise<Buffer> {
  const columns = Math.min(COLUMNS, panels.length);
  const rows = Math.ceil(panels.length / columns);
  const width = columns * PANEL.width;
  const height = rows * PANEL.height + keys.length * KEY_PX + 12;
  const shapes: string[] = [];
  const texts: Text[] = [];
  for (const [k, panel] of panels.entries()) {
    const [dx, dy] = [(k % columns) * PANEL.width, Math.floor(k / columns) * PANEL.height];
    drawPanel(panel, dx, dy, shapes, texts);
  }
  for (const [k, { label, colour, dashed }] of keys.entries()) {
    const y = rows * PANEL.height + k * KEY_PX + 12;
    shapes.push(path([PANEL.left, PANEL.left + 32], [y, y], colour, dashed));
    texts.push({ text: label, x: PANEL.left + 42, y: y - 9, align: 'left' });
  }
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"><rect width="100%" height="100%" fill="white"/>${shapes.join('')}</svg>`;
  const layers = await Promise.all(texts.map((text) => textLayer(text, width)));
  return sharp(Buffer.from(svg)).composite(layers).removeAlpha().png().toBuffer();
}

async function textLayer({ text, x, y, align }: Text, width: number): Promise<OverlayOptions> {
  const { data, info } = await textPng(text);
  const shift = { left: 0, middle: info.width / 2, right: info.width }[align];
  const left = Math.round(Math.max(0, Math.min(x - shift, width - info.width)));
  return { input: data, left, top: Math.max(0, Math.round(y)) };
}

function drawPanel(panel: Panel, dx: number, dy: number, shapes: string[], texts: Text[]): void {
  const { lines = [], marks = [], names, logX = false } = panel;
  const inX = { from: dx + PANEL.left, to: dx + PANEL.width - PANEL.right };
  const inY = { from: dy + PANEL.height - PANEL.bottom, to: dy + PANEL.top };
  const xs = names ? [-0.5, names.length - 0.5] : lines.flatMap(({ x }) => x);
  const ys = [
    ...lines.flatMap(({ y }) => y),
    ...marks.flatMap(({ value, low, high, floor }) => [value, low, high, floor ?? value]),
  ].filter(Number.isFinite);
  const x = scale(range(xs), inX, logX);
  const y = scale(padded(range(ys)), inY, false);

  texts.push({ text: panel.title, x: (inX.from + inX.to) / 2, y: dy + 8, align: 'middle' });
  texts.push({ text: panel.xLabel, x: (inX.from + inX.to) / 2, y: inY.from + 24, align: 'middle' });
  for (const tick of ticks(y.domain)) {
    const at = y.of(tick);
    shapes.push(`<path d="M${inX.from} ${at}H${inX.to}" stroke="${GRID}"/>`);
    texts.push({ text: tickText(tick), x: inX.from - 6, y: at - 9, align: 'right' });
  }
  const named = names?.map((name, k) => [k, name] as const);
  const numbered = (logX ? logTicks(x.domain) : ticks(x.domain)).map(
    (tick) => [tick, tickText(tick)] as const,
  );
  for (const [tick, text] of named ?? numbered)
    texts.push({ text, x: x.of(tick), y: inY.from + 4, align: 'middle' });
  shapes.push(`<path d="M${inX.from} ${inY.to}V${inY.from}H${inX.to}" stroke="#444" fill="none"/>`);

  for (const line of lines) {
    const points = line.x
      .map((value, k) => [x.of(value), y.of(line.y[k])])
      .filter((p) => p.every(Number.isFinite));
    shapes.push(
      path(
        points.map(([px]) => px),
        points.map(([, py]) => py),
        line.colour,
        line.dashed,
      ),
    );
    if (line.dots || points.length === 1)
      for (const [px, py] of points)
        shapes.push(`<circle cx="${px}" cy="${py}" r="3" fill="${line.colour}"/>`);
  }
  for (const { x: place, value, low, high, colour, floor } of marks) {
    const at = x.of(place);
    if (floor !== null) shapes.push(path([at - 24, at + 24], [y.of(floor), y.of(floor)], '#888888', true));
    shapes.push(path([at, at], [y.of(low), y.of(high)], colour));
    shapes.push(`<circle cx="${at}" cy="${y.of(value)}" r="5" fill="${colour}"/>`);
  }
}

function path(xs: readonly number[], ys: readonly number[], colour: string, dashed = false): string {
  const points = xs.map((px, k) => `${px.toFixed(1)} ${ys[k].toFixed(1)}`).join('L');
  const dash = dashed ? ' stroke-dasharray="6 4"' : '';
  return points && `<path d="M${points}" stroke="${colour}" stroke-width="2" fill="none"${dash}/>`;
}

type Range = readonly [number, number];

function range(values: readonly number[]): Range {
  return values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
}

/** From 0 where the values come near it, with room above. */
function padded([low, high]: Range): Range {
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  return [low >= 0 && low < high / 2 ? 0 : low - room, high + room];
}

function scale(domain: Range, { from, to }: { from: number; to: number }, log: boolean) {
  const f = log ? Math.log : (value: number) => value;
  const [low, high] = domain.map(f);
  const span = high - low || 1;
  return { domain, of: (value: number) => from + ((f(value) - low) / span) * (to - from) };
}

/** About five round numbers (1, 2 or 5 times a power of ten). */
function ticks([low, high]: Range): number[] {
  if (!(high > low)) return [low];
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough)! * power;
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, k) => (first + k) * step);
}

function logTicks([low, high]: Range): number[] {
  const first = Math.ceil(Math.log10(low));
  return Array.from({ length: Math.floor(Math.log10(high)) - first + 1 }, (_, k) => 10 ** (first + k));
}

const tickText = (value: number) => String(Number(value.toPrecision(3)));
