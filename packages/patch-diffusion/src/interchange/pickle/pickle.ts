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
import { ByteSlice, type ByteSource, MemorySource } from './byte-source.js';
import { PickleInput } from './input.js';

/** A Python name that the allow-list knows. */
export interface PickleGlobal {
  /** `module.name` */
  readonly name: string;
  /** What calling it gives; absent where it is not callable. */
  readonly call?: (args: readonly unknown[]) => unknown;
}

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
const COST = { container: 200, item: 40, text: 48, memo: 40 } as const;

const MAX_LINE = 4096;
const MAX_INT_BYTES = 255;
const MAX_PROTOCOL = 5;
/** Characters of a dotted Python name. */
const MAX_NAME = 200;

const REFUSED: Readonly<Record<number, string>> = {
  105: 'INST',
  111: 'OBJ',
  80: 'PERSID',
  130: 'EXT1',
  131: 'EXT2',
  132: 'EXT4',
  151: 'NEXT_BUFFER',
  152: 'READONLY_BUFFER',
};

/** A value and the position behind its pickle. */
export interface Unpickled {
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
      [0x28 /* MARK */, (m) => m.#marks.push(m.#stack.length)],

      [0x4e /* NONE */, (m) => m.#push(null)],
      [0x88 /* NEWTRUE */, (m) => m.#push(true)],
      [0x89 /* NEWFALSE */, (m) => m.#push(false)],
      [0x4b /* BININT1 */, (m) => m.#push(m.input.uint8())],
      [0x4d /* BININT2 */, (m) => m.#push(m.input.uint16())],
      [0x4a /* BININT */, (m) => m.#push(m.input.int32())],
      [0x47 /* BINFLOAT */, (m) => m.#push(m.input.float64())],
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

      [0x29 /* EMPTY_TUPLE */, (m) => m.#push(m.#array([]))],
      [0x85 /* TUPLE1 */, (m) => m.#push(m.#array(m.#popMany(1)))],
      [0x86 /* TUPLE2 */, (m) => m.#push(m.#array(m.#popMany(2)))],
      [0x87 /* TUPLE3 */, (m) => m.#push(m.#array(m.#popMany(3)))],
      [0x74 /* TUPLE */, (m) => m.#push(m.#array(m.#popMark()))],
      [0x6c /* LIST */, (m) => m.#push(m.#array(m.#popMark()))],
      [0x5d /* EMPTY_LIST */, (m) => m.#push(m.#array([]))],
      [0x61 /* APPEND */, (m) => m.#append(m.#popMany(1))],
      [0x65 /* APPENDS */, (m) => m.#append(m.#popMark())],
      [0x7d /* EMPTY_DICT */, (m) => m.#newDict([])],
      [0x64 /* DICT */, (m) => m.#newDict(m.#popMark())],
      [0x73 /* SETITEM */, (m) => m.#setItems(m.#popMany(2))],
      [0x75 /* SETITEMS */, (m) => m.#setItems(m.#popMark())],
      [0x8f /* EMPTY_SET */, (m) => m.#newSet([])],
      [0x91 /* FROZENSET */, (m) => m.#newSet(m.#popMark())],
      [0x90 /* ADDITEMS */, (m) => m.#addItems(m.#popMark())],

      [0x30 /* POP */, (m) => m.#drop()],
      [0x31 /* POP_MARK */, (m) => m.#popMark()],
      [0x32 /* DUP */, (m) => m.#push(m.#top())],

      [0x94 /* MEMOIZE */, (m) => m.#remember(m.#memo.size)],
      [0x71 /* BINPUT */, (m) => m.#remember(m.input.uint8())],
      [0x72 /* LONG_BINPUT */, (m) => m.#remember(m.input.uint32())],
      [0x70 /* PUT */, (m) => m.#remember(m.#index(m.input.line(MAX_LINE)))],
      [0x68 /* BINGET */, (m) => m.#recall(m.input.uint8())],
      [0x6a /* LONG_BINGET */, (m) => m.#recall(m.input.uint32())],
      [0x67 /* GET */, (m) => m.#recall(m.#index(m.input.line(MAX_LINE)))],

      [0x63 /* GLOBAL */, (m) => m.#global(m.input.line(MAX_LINE), m.input.line(MAX_LINE))],
      [0x93 /* STACK_GLOBAL */, (m) => m.#global(...(m.#popMany(2) as [unknown, unknown]))],
      [0x52 /* REDUCE */, (m) => m.#call(...(m.#popMany(2) as [unknown, unknown]))],
      [0x81 /* NEWOBJ */, (m) => m.#call(...(m.#popMany(2) as [unknown, unknown]))],
      [0x92 /* NEWOBJ_EX */, (m) => m.#call(...(m.#popMany(3) as [unknown, unknown, unknown]))],
      [0x62 /* BUILD */, (m) => m.#build(m.#pop())],
      [0x51 /* BINPERSID */, (m) => m.#push(m.host.persistent(m.#pop()))],
    ],
  );

  readonly #stack: unknown[] = [];
  /** Stack heights at the open MARKs. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, unknown>();
  readonly #utf8 = new TextDecoder('utf-8');

  constructor(
    readonly input: PickleInput,
    readonly host: PickleHost,
    readonly budget: Budget,
  ) {}

  run(): Unpickled {
    const { input, budget } = this;
    for (;;) {
      budget.steps(1);
      const opcode = input.uint8();
      if (opcode === 0x2e /* STOP */) {
        const value = this.#pop();
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
    const refused = REFUSED[opcode];
    if (refused !== undefined) this.budget.refuse(`it uses the pickle instruction ${refused}`);
    this.#fail(`there is no pickle instruction 0x${opcode.toString(16)}`);
  }

  #fail(what: string): never {
    this.budget.fail(`${what} (byte ${this.input.at})`);
  }

  // ---- stack ----

  #push(value: unknown): void {
    this.#stack.push(value);
  }

  /** Values above the last MARK only: an honest pickle never reaches below it. */
  #floor(): number {
    return this.#marks.at(-1) ?? 0;
  }

  #pop(): unknown {
    if (this.#stack.length <= this.#floor()) this.#fail('it takes a value where there is none');
    return this.#stack.pop();
  }

  #top(): unknown {
    if (this.#stack.length <= this.#floor()) this.#fail('it takes a value where there is none');
    return this.#stack[this.#stack.length - 1];
  }

  /** Drops a value, or a MARK that is on top. */
  #drop(): void {
    if (this.#marks.at(-1) === this.#stack.length) this.#marks.pop();
    else this.#pop();
  }

  #popMany(count: number): unknown[] {
    if (this.#stack.length - count < this.#floor()) this.#fail('it takes a value where there is none');
    return this.#stack.splice(this.#stack.length - count, count);
  }

  #popMark(): unknown[] {
    const mark = this.#marks.pop();
    if (mark === undefined) this.#fail('it takes a group of values where there is none');
    return this.#stack.splice(mark);
  }

  // ---- memo ----

  #remember(index: number): void {
    this.budget.memory(COST.memo);
    this.#memo.set(index, this.#top());
  }

  #recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) this.#fail(`it refers to value ${index}, which was not stored`);
    this.#push(value);
  }

  #index(line: string): number {
    if (!/^\d{1,10}$/.test(line)) this.#fail(`${show(line)} is no index`);
    return Number(line);
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
    for (let i = count - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
    if (count > 0) value = BigInt.asIntN(8 * count, value);
    this.#integer(value);
  }

  #textInteger(line: string): void {
    // Protocol 0 writes booleans as integers of two digits.
    if (line === '00' || line === '01') {
      this.#push(line === '01');
      return;
    }
    if (!/^[+-]?\d{1,600}L?$/.test(line)) this.#fail(`${show(line)} is no integer`);
    this.#integer(BigInt(line.replace(/^\+|L$/g, '')));
  }

  #integer(value: bigint): void {
    const number = Number(value);
    this.budget.memory(COST.item);
    this.#push(Number.isSafeInteger(number) ? number : value);
  }

  #textFloat(line: string): void {
    const special: Record<string, number> = { inf: Infinity, '-inf': -Infinity, nan: Number.NaN };
    const value = special[line] ?? (/^[+-]?[\d.]+(e[+-]?\d+)?$/i.test(line) ? Number(line) : undefined);
    if (value === undefined) this.#fail(`${show(line)} is no number`);
    this.#push(value);
  }

  // ---- text and bytes ----

  #text(count: number): void {
    this.#chargeText(count);
    this.#push(this.#utf8.decode(this.input.take(count)));
  }

  #latin1(count: number): void {
    this.#chargeText(count);
    const bytes = this.input.take(count);
    this.#push(Buffer.from(bytes.buffer, bytes.byteOffset, count).toString('latin1'));
  }

  #pushText(text: string): void {
    this.#chargeText(text.length);
    this.#push(text);
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
    this.#pushText(unescaped(quoted[2]!));
  }

  #bytes(count: number): void {
    this.budget.memory(COST.text);
    this.#push(this.input.skip(count));
  }

  // ---- containers ----

  #array(items: unknown[]): unknown[] {
    this.budget.memory(COST.item + 8 * items.length);
    return items;
  }

  #append(items: unknown[]): void {
    const target = this.#top();
    if (!Array.isArray(target)) this.#fail('it appends to something that is no list');
    this.budget.memory(16 * items.length);
    for (const item of items) target.push(item);
  }

  #setItems(items: unknown[]): void {
    const target = this.#top();
    if (!(target instanceof Map)) this.#fail('it sets an item of something that is no dictionary');
    if (items.length % 2) this.#fail('a dictionary entry without a value');
    this.budget.memory(COST.item * items.length);
    for (let i = 0; i < items.length; i += 2) target.set(items[i], items[i + 1]);
  }

  #newDict(items: unknown[]): void {
    this.budget.memory(COST.container);
    this.#push(new Map());
    this.#setItems(items);
  }

  #newSet(items: unknown[]): void {
    this.budget.memory(COST.container);
    this.#push(new Set());
    this.#addItems(items);
  }

  #addItems(items: unknown[]): void {
    const target = this.#top();
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
    this.#push(found);
  }

  #call(callee: unknown, args: unknown, keywords: unknown = null): void {
    if (!isGlobal(callee) || callee.call === undefined) this.budget.refuse(`it calls ${describe(callee)}`);
    if (!Array.isArray(args)) this.#fail(`the arguments of ${callee.name} are no tuple`);
    if (keywords !== null && !(keywords instanceof Map && keywords.size === 0)) {
      this.budget.refuse(`it creates ${callee.name} with keyword arguments`);
    }
    this.budget.memory(COST.container);
    this.#push(callee.call(args));
  }

  #build(state: unknown): void {
    const target = this.#top();
    if (!this.host.build(target, state)) this.budget.refuse(`it sets the state of ${describe(target)}`);
  }
}

/** Is this a name from the allow-list? */
export function isGlobal(value: unknown): value is PickleGlobal {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === globalPrototype;
}

const globalPrototype = Object.freeze({});

/** An entry of an allow-list. Its prototype marks it, so that no value of a pickle can pass for one. */
export function defineGlobal(name: string, call?: (args: readonly unknown[]) => unknown): PickleGlobal {
  const own = { name, ...(call ? { call } : {}) };
  return Object.freeze(Object.assign(Object.create(globalPrototype) as object, own)) as PickleGlobal;
}

/** Kinds of values, for messages. */
function describe(value: unknown): string {
  if (isGlobal(value)) return value.name;
  if (value instanceof ByteSlice) return 'bytes';
  return value === null ? 'None' : `a value of type ${value?.constructor?.name ?? typeof value}`;
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

/** Bytes made of text, for hosts: characters are their codes. */
export function latin1Bytes(text: string, budget: Budget): ByteSlice {
  budget.memory(text.length);
  budget.steps(Math.ceil(text.length / 16));
  return new ByteSlice(new MemorySource(Buffer.from(text, 'latin1')), 0, text.length);
}
