/**
 * Reads Python pickles (protocols 0 to 5, as documented in Python's `pickletools`) without running anything: opcodes
 * build plain values, and names of Python objects are looked up in an allow-list that the caller gives. What is not
 * on the list is refused by name.
 *
 * Python → here: None → null, dict → Map, list and tuple → array, set → Set, int → number or bigint, str → string,
 * bytes → {@link ByteSlice} (left in the file). Limits: no extension registry, no classes of protocol 0 (INST, OBJ),
 * no out-of-band buffers, no text persistent ids; these are refused. Time and memory are bounded by {@link Budget}.
 */
import type { Budget } from './budget.js';
import { show } from './budget.js';
import type { ByteSource } from './byte-source.js';
import { PickleInput } from './input.js';
import { describe, isGlobal, type PickleGlobal } from './names.js';
import { PickleStack } from './stack.js';

/** Gives meaning to what a pickle refers to. */
export interface PickleHost {
  /** The allow-list; undefined refuses the name. */
  find(name: string): PickleGlobal | undefined;
  /** The object behind a persistent id; it throws where there is none. */
  persistent(id: unknown): unknown;
  /** Gives an object its state (Python's `__setstate__`); false refuses. */
  build(target: unknown, state: unknown): boolean;
}

/** Estimated heap bytes of values, for the budget. */
const COST = { container: 200, item: 40, text: 48 } as const;

const MAX_LINE = 4096;
const MAX_INT_BYTES = 255;
const MAX_PROTOCOL = 5;
/** Characters of a dotted Python name. */
const MAX_NAME = 200;

const REFUSED: ReadonlyMap<number, string> = new Map([
  [0x69, 'INST'],
  [0x6f, 'OBJ'],
  [0x50, 'PERSID'],
  [0x82, 'EXT1'],
  [0x83, 'EXT2'],
  [0x84, 'EXT4'],
  [0x97, 'NEXT_BUFFER'],
  [0x98, 'READONLY_BUFFER'],
]);

/** A value and the position behind its pickle. */
interface Unpickled {
  readonly value: unknown;
  readonly end: number;
}

/**
 * Reads one pickle.
 * @throws UserError when it is damaged, goes beyond its budget, or asks for something that is not allowed
 */
export function readPickle(source: ByteSource, begin: number, host: PickleHost, budget: Budget): Unpickled {
  return new Machine(new PickleInput(source, budget, begin), host, budget).run();
}

class Machine {
  /** What each opcode does. */
  static readonly #opcodes: ReadonlyMap<number, (m: Machine) => void> = new Map<number, (m: Machine) => void>(
    [
      [0x80 /* PROTO */, (m) => m.#protocol(m.input.uint8())],
      [0x95 /* FRAME */, (m) => m.#frame(m.input.length64())],
      [0x28 /* MARK */, (m) => m.stack.mark()],

      [0x4e /* NONE */, (m) => m.stack.push(null)],
      [0x88 /* NEWTRUE */, (m) => m.stack.push(true)],
      [0x89 /* NEWFALSE */, (m) => m.stack.push(false)],
      [0x4b /* BININT1 */, (m) => m.stack.push(m.input.uint8())],
      [0x4d /* BININT2 */, (m) => m.stack.push(m.input.uint16())],
      [0x4a /* BININT */, (m) => m.stack.push(m.input.int32())],
      [0x47 /* BINFLOAT */, (m) => m.stack.push(m.input.float64())],
      [0x8a /* LONG1 */, (m) => m.#long(m.input.uint8())],
      [0x8b /* LONG4 */, (m) => m.#long(m.input.uint32())],
      [0x49 /* INT */, (m) => m.#textInteger(m.input.line(MAX_LINE))],
      [0x4c /* LONG */, (m) => m.#textInteger(m.input.line(MAX_LINE))],
      [0x46 /* FLOAT */, (m) => m.#textFloat(m.input.line(MAX_LINE))],

      [0x8c /* SHORT_BINUNICODE */, (m) => m.#text(m.input.uint8())],
      [0x58 /* BINUNICODE */, (m) => m.#text(m.input.uint32())],
      [0x8d /* BINUNICODE8 */, (m) => m.#text(m.input.length64())],
      [0x56 /* UNICODE */, (m) => m.#pushText(unescaped(m.input.line(MAX_LINE)))],
      // Python 2 text, taken as Latin-1.
      [0x53 /* STRING */, (m) => m.#literal(m.input.line(MAX_LINE))],
      [0x55 /* SHORT_BINSTRING */, (m) => m.#latin1(m.input.uint8())],
      [0x54 /* BINSTRING */, (m) => m.#latin1(m.input.uint32())],
      [0x43 /* SHORT_BINBYTES */, (m) => m.#bytes(m.input.uint8())],
      [0x42 /* BINBYTES */, (m) => m.#bytes(m.input.uint32())],
      [0x8e /* BINBYTES8 */, (m) => m.#bytes(m.input.length64())],
      [0x96 /* BYTEARRAY8 */, (m) => m.#bytes(m.input.length64())],

      [0x29 /* EMPTY_TUPLE */, (m) => m.stack.push(m.#array([]))],
      [0x85 /* TUPLE1 */, (m) => m.stack.push(m.#array(m.stack.popMany(1)))],
      [0x86 /* TUPLE2 */, (m) => m.stack.push(m.#array(m.stack.popMany(2)))],
      [0x87 /* TUPLE3 */, (m) => m.stack.push(m.#array(m.stack.popMany(3)))],
      [0x74 /* TUPLE */, (m) => m.stack.push(m.#array(m.stack.popMark()))],
      [0x6c /* LIST */, (m) => m.stack.push(m.#array(m.stack.popMark()))],
      [0x5d /* EMPTY_LIST */, (m) => m.stack.push(m.#array([]))],
      [0x61 /* APPEND */, (m) => m.#append(m.stack.popMany(1))],
      [0x65 /* APPENDS */, (m) => m.#append(m.stack.popMark())],
      [0x7d /* EMPTY_DICT */, (m) => m.#newDict([])],
      [0x64 /* DICT */, (m) => m.#newDict(m.stack.popMark())],
      [0x73 /* SETITEM */, (m) => m.#setItems(m.stack.popMany(2))],
      [0x75 /* SETITEMS */, (m) => m.#setItems(m.stack.popMark())],
      [0x8f /* EMPTY_SET */, (m) => m.#newSet([])],
      [0x91 /* FROZENSET */, (m) => m.#newSet(m.stack.popMark())],
      [0x90 /* ADDITEMS */, (m) => m.#addItems(m.stack.popMark())],

      [0x30 /* POP */, (m) => m.stack.drop()],
      [0x31 /* POP_MARK */, (m) => m.stack.popMark()],
      [0x32 /* DUP */, (m) => m.stack.push(m.stack.top())],

      [0x94 /* MEMOIZE */, (m) => m.stack.remember()],
      [0x71 /* BINPUT */, (m) => m.stack.remember(m.input.uint8())],
      [0x72 /* LONG_BINPUT */, (m) => m.stack.remember(m.input.uint32())],
      [0x70 /* PUT */, (m) => m.stack.remember(m.stack.index(m.input.line(MAX_LINE)))],
      [0x68 /* BINGET */, (m) => m.stack.recall(m.input.uint8())],
      [0x6a /* LONG_BINGET */, (m) => m.stack.recall(m.input.uint32())],
      [0x67 /* GET */, (m) => m.stack.recall(m.stack.index(m.input.line(MAX_LINE)))],

      [0x63 /* GLOBAL */, (m) => m.#global(m.input.line(MAX_LINE), m.input.line(MAX_LINE))],
      [0x93 /* STACK_GLOBAL */, (m) => m.#global(...(m.stack.popMany(2) as [unknown, unknown]))],
      [0x52 /* REDUCE */, (m) => m.#call(...(m.stack.popMany(2) as [unknown, unknown]))],
      [0x81 /* NEWOBJ */, (m) => m.#call(...(m.stack.popMany(2) as [unknown, unknown]))],
      [0x92 /* NEWOBJ_EX */, (m) => m.#call(...(m.stack.popMany(3) as [unknown, unknown, unknown]))],
      [0x62 /* BUILD */, (m) => m.#build(m.stack.pop())],
      [0x51 /* BINPERSID */, (m) => m.stack.push(m.host.persistent(m.stack.pop()))],
    ],
  );

  readonly stack: PickleStack;
  readonly #utf8 = new TextDecoder('utf-8');

  constructor(
    readonly input: PickleInput,
    readonly host: PickleHost,
    readonly budget: Budget,
  ) {
    this.stack = new PickleStack(budget);
  }

  run(): Unpickled {
    const { input, budget } = this;
    for (;;) {
      budget.steps(1);
      const opcode = input.uint8();
      if (opcode === 0x2e /* STOP */) {
        const value = this.stack.pop();
        return { value, end: input.at };
      }
      this.#step(opcode);
    }
  }

  #step(opcode: number): void {
    const run = Machine.#opcodes.get(opcode);
    if (run !== undefined) {
      run(this);
      return;
    }
    const refused = REFUSED.get(opcode);
    if (refused !== undefined) this.budget.refuse(`it uses the pickle instruction ${refused}`);
    this.#fail(`there is no pickle instruction 0x${opcode.toString(16)}`);
  }

  #fail(what: string): never {
    this.budget.fail(`${what} (byte ${this.input.at})`);
  }

  // ---- scalars ----

  #protocol(version: number): void {
    if (version > MAX_PROTOCOL)
      this.#fail(`it is of pickle protocol ${version}; 0 to ${MAX_PROTOCOL} are known`);
  }

  /** Bytes that belong together; only their number is checked. */
  #frame(count: number): void {
    if (count > this.input.remaining) this.#fail('a frame is longer than the file');
  }

  /** Two's complement, little-endian. */
  #long(count: number): void {
    if (count > MAX_INT_BYTES) this.#fail(`an integer of ${count} bytes`);
    const bytes = this.input.take(count);
    let value = 0n;
    for (let i = count - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]);
    if (count > 0) value = BigInt.asIntN(8 * count, value);
    this.#integer(value);
  }

  #textInteger(line: string): void {
    // Protocol 0 writes booleans as integers of two digits.
    if (line === '00' || line === '01') {
      this.stack.push(line === '01');
      return;
    }
    if (!/^[+-]?\d{1,600}L?$/.test(line)) this.#fail(`${show(line)} is no integer`);
    this.#integer(BigInt(line.replace(/^\+|L$/g, '')));
  }

  #integer(value: bigint): void {
    const number = Number(value);
    this.budget.memory(COST.item);
    this.stack.push(Number.isSafeInteger(number) ? number : value);
  }

  #textFloat(line: string): void {
    const special: Record<string, number> = { inf: Infinity, '-inf': -Infinity, nan: Number.NaN };
    const value = special[line] ?? (/^[+-]?[\d.]+(e[+-]?\d+)?$/i.test(line) ? Number(line) : undefined);
    if (value === undefined) this.#fail(`${show(line)} is no number`);
    this.stack.push(value);
  }

  // ---- text and bytes ----

  #text(count: number): void {
    this.#chargeText(count);
    this.stack.push(this.#utf8.decode(this.input.take(count)));
  }

  #latin1(count: number): void {
    this.#chargeText(count);
    const bytes = this.input.take(count);
    this.stack.push(Buffer.from(bytes.buffer, bytes.byteOffset, count).toString('latin1'));
  }

  #pushText(text: string): void {
    this.#chargeText(text.length);
    this.stack.push(text);
  }

  /** One byte per character and a little more. Checked before anything is read. */
  #chargeText(count: number): void {
    if (count > this.input.remaining && count > MAX_LINE)
      this.#fail(`text of ${count} bytes in a shorter file`);
    this.budget.memory(COST.text + count);
    this.budget.steps(Math.ceil(count / 16));
  }

  #literal(line: string): void {
    const quoted = /^(['"])(.*)\1$/s.exec(line);
    if (quoted === null) this.#fail(`${show(line)} is no quoted text`);
    this.#pushText(unescaped(quoted[2]));
  }

  #bytes(count: number): void {
    this.budget.memory(COST.text);
    this.stack.push(this.input.skip(count));
  }

  // ---- containers ----

  #array(items: unknown[]): unknown[] {
    this.budget.memory(COST.item + 8 * items.length);
    return items;
  }

  #append(items: unknown[]): void {
    const target = this.stack.top();
    if (!Array.isArray(target)) this.#fail('it appends to something that is no list');
    this.budget.memory(16 * items.length);
    for (const item of items) target.push(item);
  }

  #setItems(items: unknown[]): void {
    const target = this.stack.top();
    if (!(target instanceof Map)) this.#fail('it sets an item of something that is no dictionary');
    if (items.length % 2) this.#fail('a dictionary entry without a value');
    this.budget.memory(COST.item * items.length);
    for (let i = 0; i < items.length; i += 2) target.set(items[i], items[i + 1]);
  }

  #newDict(items: unknown[]): void {
    this.budget.memory(COST.container);
    this.stack.push(new Map());
    this.#setItems(items);
  }

  #newSet(items: unknown[]): void {
    this.budget.memory(COST.container);
    this.stack.push(new Set());
    this.#addItems(items);
  }

  #addItems(items: unknown[]): void {
    const target = this.stack.top();
    if (!(target instanceof Set)) this.#fail('it adds to something that is no set');
    this.budget.memory(COST.item * items.length);
    for (const item of items) target.add(item);
  }

  // ---- names and calls ----

  #global(module: unknown, name: unknown): void {
    if (typeof module !== 'string' || typeof name !== 'string') this.#fail('a name that is no text');
    const full = `${module}.${name}`;
    const found = full.length > MAX_NAME ? undefined : this.host.find(full);
    if (found === undefined) this.budget.refuse(`it names the Python object ${show(full)}`);
    this.stack.push(found);
  }

  #call(callee: unknown, args: unknown, keywords: unknown = null): void {
    if (!isGlobal(callee) || callee.call === undefined) this.budget.refuse(`it calls ${describe(callee)}`);
    if (!Array.isArray(args)) this.#fail(`the arguments of ${callee.name} are no tuple`);
    if (keywords !== null && !(keywords instanceof Map && keywords.size === 0)) {
      this.budget.refuse(`it creates ${callee.name} with keyword arguments`);
    }
    this.budget.memory(COST.container);
    this.stack.push(callee.call(args));
  }

  #build(state: unknown): void {
    const target = this.stack.top();
    if (!this.host.build(target, state)) this.budget.refuse(`it sets the state of ${describe(target)}`);
  }
}

/** Escapes of protocol-0 text that are needed for plain names; others stay as they are. */
function unescaped(text: string): string {
  return text
    .replace(/\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2}))/g, (_, u?: string, x?: string) =>
      String.fromCharCode(Number.parseInt((u ?? x)!, 16)),
    )
    .replace(/\\n/g, '\n')
    .replace(/\\(['"\\])/g, '$1');
}
