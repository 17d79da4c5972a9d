/**
 * What one file may cost to read. A pickle is a program: a few bytes can ask for a great deal of work or memory, by
 * re-using memoised values or by claiming huge counts. Every value built and every step is charged here, and
 * parts of the file that are parsed again are charged again, so that time and memory stay linear in the file's size.
 */
import { UserError } from '../../common/errors.js';

/** Small files may cost this much whatever their size. */
const FREE_BYTES = 32 * 2 ** 20;
const FREE_STEPS = 4096;

export class Budget {
  readonly #maxBytes: number;
  readonly #maxSteps: number;
  #bytes = 0;
  #steps = 0;

  /**
   * @param file name for messages
   * @param fileBytes size of the whole file
   */
  constructor(
    readonly file: string,
    fileBytes: number,
  ) {
    this.#maxBytes = FREE_BYTES + fileBytes;
    // Every opcode takes at least one byte.
    this.#maxSteps = FREE_STEPS + fileBytes;
  }

  /** Charges memory: an estimate of what a value takes on the heap. */
  memory(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes > this.#maxBytes) this.fail('its objects need far more memory than the file has bytes');
  }

  /** Charges work: opcodes, or items copied. */
  steps(count: number): void {
    this.#steps += count;
    if (this.#steps > this.#maxSteps) this.fail('it has far more instructions than bytes');
  }

  /** @throws UserError always: the file is damaged, or was made to harm */
  fail(what: string): never {
    throw new UserError(
      'BAD_CHECKPOINT',
      `${this.file} is not a readable checkpoint: ${what}; copy or download it again, from a source you trust`,
    );
  }

  /** @throws UserError always: the file asks for something that checkpoints do not need */
  refuse(what: string): never {
    throw new UserError(
      'UNSAFE_CHECKPOINT',
      `${this.file} is refused: ${what}, which no checkpoint of these networks needs; nothing of it was executed`,
    );
  }
}

/** Untrusted text for a message: quoted, short, no control characters. */
export function show(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
}
