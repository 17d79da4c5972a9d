/**
 * Which sprites an image is made of: the combination that is nearest to it by the sum of squared differences. One part
 * after the other takes its best sprite, given the others, until none changes; where that leaves an image
 * unexplained, glasses and the eyes behind them are chosen together. (Of 1,500 real avatars, 5 need that.)
 */
import { AREA, PARTS, type Part } from './sprites.js';

/** How an image is explained. Numbers by part are in the order of the parts. */
export interface AvatarFit {
  /** Index of the sprite of each part; −1 for none. */
  readonly sprites: Int16Array;
  /** The part that each pixel shows most of, row by row. */
  readonly owner: Uint8Array;
  /** Number of pixels of each part. */
  readonly visible: Uint16Array;
  /**
   * The largest difference of a visible pixel to its sprite: root mean square of the channels, 0 … 255; 0 for parts that are
   * not visible.
   */
  readonly distances: Float32Array;
  /** RMS difference of the best colour for the part and the colour that was chosen; NaN where no colour is visible. */
  readonly colourErrors: Float32Array;
  /** The image made of these sprites, RGB, row by row, 0 … 255. */
  readonly drawn: Float32Array;
}

const MAX_SWEEPS = 8;

/** Parts are fitted in this order, large ones first. */
const ORDER = (
  [
    'background',
    'skin',
    'hair',
    'clothing',
    'hat',
    'glasses',
    'eyes',
    'mouth',
    'beard',
    'accessories',
  ] as const
).map((name) => PARTS.indexOf(name));

const [GLASSES, EYES] = [PARTS.indexOf('glasses'), PARTS.indexOf('eyes')];

/**
 * Explains an image.
 * @param image RGB, row by row, 0 … 255
 * @param goodEnough a fit whose distances all are below this is not searched further
 */
export function fitAvatar(image: ArrayLike<number>, parts: readonly Part[], goodEnough: number): AvatarFit {
  const search = new Search(image, parts);
  search.descend();
  if (search.largestDifference() > goodEnough) {
    search.choosePair(GLASSES, EYES);
    search.descend();
  }
  return search.result();
}

class Search {
  readonly #image: Float32Array;
  readonly #parts: readonly Part[];
  /** Chosen sprite of each part; −1 for none. */
  readonly #chosen: Int16Array;
  /** What lies below a part. */
  readonly #below = new Float32Array(3 * AREA);
  /** What the parts above it add, and how much they let through. */
  readonly #above = new Float32Array(3 * AREA);
  readonly #through = new Float32Array(AREA);
  /** Squared difference of each pixel without the part. */
  readonly #without = new Float32Array(AREA);

  constructor(image: ArrayLike<number>, parts: readonly Part[]) {
    this.#image = Float32Array.from(image);
    this.#parts = parts;
    this.#chosen = Int16Array.from(parts, ({ isOptional }) => (isOptional ? -1 : 0));
  }

  /** Lets one part after the other take its best sprite until none changes. */
  descend(): void {
    for (let sweep = 0; sweep < MAX_SWEEPS; sweep++) {
      let isChanged = false;
      for (const part of ORDER) {
        const { sprite } = this.#best(part);
        isChanged ||= sprite !== this.#chosen[part];
        this.#chosen[part] = sprite;
      }
      if (!isChanged) return;
    }
  }

  /** Chooses two parts together. */
  choosePair(first: number, second: number): void {
    let best = { error: Number.POSITIVE_INFINITY, first: -1, second: -1 };
    for (let k = this.#parts[first].isOptional ? -1 : 0; k < this.#parts[first].sprites.length; k++) {
      this.#chosen[first] = k;
      const { sprite, error } = this.#best(second);
      if (error < best.error) best = { error, first: k, second: sprite };
    }
    this.#chosen[first] = best.first;
    this.#chosen[second] = best.second;
  }

  /** The best sprite of a part, given the others, and the squared error of the whole image with it. */
  #best(part: number): { sprite: number; error: number } {
    this.#compose(part);
    const [image, below, above] = [this.#image, this.#below, this.#above];
    const [through, without] = [this.#through, this.#without];
    let base = 0;
    for (let i = 0; i < AREA; i++) {
      let sum = 0;
      for (let j = 3 * i; j < 3 * i + 3; j++) sum += (image[j] - above[j] - through[i] * below[j]) ** 2;
      without[i] = sum;
      base += sum;
    }
    const { isOptional, shapes } = this.#parts[part];
    let sprite = -1;
    let error = isOptional ? base : Number.POSITIVE_INFINITY;
    let next = 0;
    for (const { pixels, cover, fixed, tint, colours } of shapes) {
      // With the colour k, a channel is off by u − t·k; the sum of squares is Σu² − 2k·Σut + k²·Σt².
      let squares = base;
      let power = 0;
      const product = [0, 0, 0];
      for (let n = 0; n < pixels.length; n++) {
        const i = pixels[n];
        const t = through[i] * tint[n];
        const rest = 1 - cover[n];
        squares -= without[i];
        power += t * t;
        for (let c = 0; c < 3; c++) {
          const j = 3 * i + c;
          const u = image[j] - above[j] - through[i] * (fixed[3 * n + c] + rest * below[j]);
          squares += u * u;
          product[c] += u * t;
        }
      }
      for (const colour of colours) {
        let sum = squares;
        for (let c = 0; c < 3; c++) sum += colour[c] * (colour[c] * power - 2 * product[c]);
        // Of sprites that show the same, the first.
        if (sum < error - 1e-3) [sprite, error] = [next, sum];
        next++;
      }
    }
    return { sprite, error };
  }

  /** Puts the parts below a part together, and those above it. */
  #compose(part: number): void {
    this.#below.fill(0);
    this.#above.fill(0);
    this.#through.fill(1);
    for (let p = 0; p < part; p++) this.#cover(p, this.#below);
    for (let p = part + 1; p < this.#parts.length; p++) this.#cover(p, this.#above, this.#through);
  }

  /** Lays a part over a picture. */
  #cover(part: number, picture: Float32Array, through?: Float32Array): void {
    const sprite = this.#parts[part].sprites[this.#chosen[part]];
    if (sprite === undefined) return;
    const { shape, colour } = sprite;
    const { pixels, cover, fixed, tint } = shape;
    for (let n = 0; n < pixels.length; n++) {
      const i = pixels[n];
      const rest = 1 - cover[n];
      for (let c = 0; c < 3; c++) {
        const j = 3 * i + c;
        picture[j] = fixed[3 * n + c] + tint[n] * colour[c] + rest * picture[j];
      }
      if (through) through[i] *= rest;
    }
  }

  #draw(): Float32Array {
    this.#compose(this.#parts.length);
    return this.#below.slice();
  }

  /** The largest difference of a pixel, as in {@link AvatarFit.distances}. */
  largestDifference(): number {
    const drawn = this.#draw();
    let largest = 0;
    for (let i = 0; i < AREA; i++) largest = Math.max(largest, difference(this.#image, drawn, i));
    return largest;
  }

  result(): AvatarFit {
    const drawn = this.#draw();
    const { weights, owner } = this.#visibility();
    const visible = new Uint16Array(this.#parts.length);
    const distances = new Float32Array(this.#parts.length);
    for (let i = 0; i < AREA; i++) {
      const part = owner[i];
      visible[part]++;
      distances[part] = Math.max(distances[part], difference(this.#image, drawn, i));
    }
    const colourErrors = Float32Array.from(this.#parts, (_, part) =>
      visible[part] === 0 ? Number.NaN : this.#colourError(part, weights[part], drawn),
    );
    return { sprites: this.#chosen.slice(), owner, visible, distances, colourErrors, drawn };
  }

  /** How much of each pixel shows each part, [parts][AREA], and the part that it shows most of. */
  #visibility(): { weights: Float32Array[]; owner: Uint8Array } {
    const weights = this.#parts.map(() => new Float32Array(AREA));
    const through = new Float32Array(AREA).fill(1);
    const owner = new Uint8Array(AREA);
    const most = new Float32Array(AREA);
    for (let p = this.#parts.length - 1; p >= 0; p--) {
      const sprite = this.#parts[p].sprites[this.#chosen[p]];
      if (sprite === undefined) continue;
      const { pixels, cover } = sprite.shape;
      for (const [n, i] of pixels.entries()) {
        weights[p][i] = through[i] * cover[n];
        if (weights[p][i] > most[i]) [owner[i], most[i]] = [p, weights[p][i]];
        through[i] *= 1 - cover[n];
      }
    }
    return { weights, owner };
  }

  /** Least-squares colour of a part against its chosen one. */
  #colourError(part: number, weights: Float32Array, drawn: Float32Array): number {
    const { pixels, cover, tint } = this.#parts[part].sprites[this.#chosen[part]].shape;
    let power = 0;
    const shift = [0, 0, 0];
    for (const [n, i] of pixels.entries()) {
      // The share of the part's colour in what is seen of the pixel.
      const share = (weights[i] / cover[n]) * tint[n];
      power += share * share;
      for (let c = 0; c < 3; c++) shift[c] += share * (this.#image[3 * i + c] - drawn[3 * i + c]);
    }
    if (power < 0.5) return Number.NaN;
    return Math.sqrt(shift.reduce((sum, d) => sum + (d / power) ** 2, 0) / 3);
  }
}

/** Root mean square of the differences of a pixel's channels. */
function difference(a: ArrayLike<number>, b: ArrayLike<number>, i: number): number {
  let sum = 0;
  for (let j = 3 * i; j < 3 * i + 3; j++) sum += (a[j] - b[j]) ** 2;
  return Math.sqrt(sum / 3);
}
