/**
 * Dynamic loss scaling for float16 (Micikevicius et al. 2018, section 3.2): the loss is multiplied by a factor as large
 * as the gradients' range allows. An overflow halves it and costs that update; a long run without one doubles it. The
 * gradients are divided by it again, so that Adam's moments do not depend on it. bfloat16 and float32 need none.
 */

const INITIAL_SCALE = 2 ** 16;
const MIN_SCALE = 1;
const MAX_SCALE = 2 ** 24;
/** Updates without an overflow after which the factor doubles. */
const GROWTH_INTERVAL = 2000;

/** Plain numbers; a training state saves them, so that a resumed run continues exactly. */
export interface LossScaleState {
  readonly scale: number;
  /** Updates since the last overflow or growth. */
  readonly goodSteps: number;
}

export class DynamicLossScale {
  #scale = INITIAL_SCALE;
  #goodSteps = 0;

  /** Factor on the loss of the next update; a power of two, so that multiplying by it does not round. */
  get scale(): number {
    return this.#scale;
  }

  /** Whether the factor cannot get smaller; an overflow then has another cause. */
  get isLowest(): boolean {
    return this.#scale <= MIN_SCALE;
  }

  /** Adapts the factor after an update. @param isGood whether the scaled gradient was finite */
  update(isGood: boolean): void {
    if (!isGood) {
      this.#scale = Math.max(this.#scale / 2, MIN_SCALE);
      this.#goodSteps = 0;
    } else if (++this.#goodSteps === GROWTH_INTERVAL) {
      this.#scale = Math.min(this.#scale * 2, MAX_SCALE);
      this.#goodSteps = 0;
    }
  }

  get state(): LossScaleState {
    return { scale: this.#scale, goodSteps: this.#goodSteps };
  }

  set state({ scale, goodSteps }: LossScaleState) {
    this.#scale = scale;
    this.#goodSteps = goodSteps;
  }
}
