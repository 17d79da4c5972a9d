/**
 * The sprites that pixel-art avatars are made of: each variant of each part in each of its colours, as DiceBear draws it,
 * alone. A sprite covers some of the 16 × 16 pixels, wholly or in part; sprites lie on each other in the order of
 * {@link PARTS}.
 */
import { createAvatar } from '@dicebear/core';
import * as pixelArt from '@dicebear/pixel-art';
import { AVATAR_BACKGROUNDS, drawSvg } from '../../prepare/avatars.js';

/** Side of an avatar in pixels. */
export const SIDE = 16;
export const AREA = SIDE * SIDE;

/** From the bottom to the top. */
export const PARTS = [
  ...(['background', 'skin', 'accessories', 'clothing', 'eyes'] as const),
  ...(['glasses', 'beard', 'mouth', 'hair', 'hat'] as const),
];
export type PartName = (typeof PARTS)[number];

/** Parts that an avatar may lack. */
const OPTIONAL: ReadonlySet<PartName> = new Set(['accessories', 'glasses', 'beard', 'hat']);

/** A variant, in whatever colour. */
export interface Shape {
  readonly variant: string;
  /** Indices of the pixels that it covers, row by row. */
  readonly pixels: Uint8Array;
  /** How much of each of these pixels it covers, 0 … 1. */
  readonly cover: Float32Array;
  /** What it adds to each of them when its colour is black, RGB, 0 … 255. */
  readonly fixed: Float32Array;
  /** How much of its colour is in each of them, 0 … 1. */
  readonly tint: Float32Array;
  /** The colours that it comes in, RGB, 0 … 255. */
  readonly colours: readonly (readonly number[])[];
}

/** A variant in one of its colours. */
export interface Sprite {
  readonly shape: Shape;
  readonly colour: readonly number[];
}

export interface Part {
  readonly name: PartName;
  readonly isOptional: boolean;
  readonly shapes: readonly Shape[];
  /** Every shape in every one of its colours, in this order. */
  readonly sprites: readonly Sprite[];
}

let loaded: Promise<readonly Part[]> | undefined;

/** All parts, from the bottom to the top. Drawn once in a process, in about a second. */
export function loadParts(): Promise<readonly Part[]> {
  loaded ??= Promise.all(PARTS.map(loadPart));
  return loaded;
}

async function loadPart(name: PartName): Promise<Part> {
  const shapes = name === 'background' ? [plainGround()] : await Promise.all(shapesOf(name));
  const sprites = shapes.flatMap((shape) => shape.colours.map((colour) => ({ shape, colour })));
  return { name, isOptional: OPTIONAL.has(name), shapes, sprites };
}

function plainGround(): Shape {
  return {
    variant: 'plain',
    pixels: Uint8Array.from({ length: AREA }, (_, i) => i),
    cover: new Float32Array(AREA).fill(1),
    fixed: new Float32Array(3 * AREA),
    tint: new Float32Array(AREA).fill(1),
    colours: AVATAR_BACKGROUNDS.map(toRgb),
  };
}

function shapesOf(part: PartName): Promise<Shape>[] {
  const colours = choicesOf(colourOption(part));
  const variants = part === 'skin' ? ['plain'] : choicesOf(part);
  // How much a beard covers depends on its colour, so each colour is a shape of its own.
  if (part === 'beard')
    return variants.flatMap((name) => colours.map((colour) => shapeOf(part, name, [colour])));
  return variants.map((name) => shapeOf(part, name, colours));
}

/**
 * What a variant covers and adds. On a ground b, a sprite of cover a shows l + (1 − a)·b, so a black and a white ground tell
 * l and a; drawn in black and in white, it tells what share of l is its own colour.
 * @param colours a single one is drawn as it is, and nothing of it counts as its own colour
 */
async function shapeOf(part: PartName, variant: string, colours: readonly string[]): Promise<Shape> {
  const only = colours.length === 1 ? colours[0] : null;
  const draw = (ground: string, colour: string) => drawAlone(ground, { part, variant, colour });
  const [onBlack, onWhite, inWhite] = await Promise.all([
    draw('000000', only ?? '000000'),
    draw('ffffff', only ?? '000000'),
    draw('000000', only ?? 'ffffff'),
  ]);
  // What is drawn anyway, beneath the part: a trace of light on the face.
  const [black, white] =
    part === 'skin'
      ? [new Uint8Array(3 * AREA), new Uint8Array(3 * AREA).fill(255)]
      : await Promise.all([drawAlone('000000', null), drawAlone('ffffff', null)]);
  const pixels: number[] = [];
  const [cover, fixed, tint]: number[][] = [[], [], []];
  for (let i = 0; i < AREA; i++) {
    const at = 3 * i;
    const through = clamp((onWhite[at] - onBlack[at]) / (white[at] - black[at]));
    if (through > 0.99) continue;
    pixels.push(i);
    cover.push(1 - through);
    for (let c = 0; c < 3; c++) fixed.push(onBlack[at + c] - through * black[at + c]);
    tint.push(clamp((inWhite[at] - onBlack[at]) / 255));
  }
  return {
    variant,
    pixels: Uint8Array.from(pixels),
    cover: Float32Array.from(cover),
    fixed: Float32Array.from(fixed),
    tint: Float32Array.from(tint),
    colours: colours.map(toRgb),
  };
}

const clamp = (share: number) => Math.min(1, Math.max(0, share));

/** Draws one part, or none, without skin. @returns RGB, row by row */
async function drawAlone(
  ground: string,
  wanted: { readonly part: PartName; readonly variant: string; readonly colour: string } | null,
): Promise<Uint8Array> {
  const nothing = Object.fromEntries(PARTS.map((name) => [name, []]));
  const shown = wanted && {
    [wanted.part]: [wanted.variant],
    [`${wanted.part}Probability`]: 100,
    [colourOption(wanted.part)]: [wanted.colour],
  };
  const options = { ...nothing, skinColor: ['transparent'], ...shown, backgroundColor: [ground] };
  const { data } = await drawSvg(createAvatar<object>(pixelArt, options).toString(), SIDE);
  return data;
}

const colourOption = (part: PartName) => (part === 'beard' ? 'hairColor' : `${part}Color`);

/** What the style's own description says an option may be. */
function choicesOf(option: string): string[] {
  const property = pixelArt.schema.properties?.[option];
  const choices = typeof property === 'object' ? property.default : undefined;
  if (!Array.isArray(choices)) throw new Error(`internal: the pixel-art style has no option ${option}`);
  return choices as string[];
}

function toRgb(hex: string): number[] {
  return [0, 2, 4].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
}
