/** Turns parsed operators into the text of src/ops/generated.ts. */
import { camelCase } from './schema.mjs';

/** Arguments that TypeScript does not offer where they have a default. */
const HIDDEN = new Set(['layout', 'pin_memory', 'cudnn_enabled', 'cudnn_enable', 'implicit', 'is_coalesced']);
/** Names that cannot be JavaScript bindings. */
const RESERVED = new Set(['var', 'default', 'function', 'in', 'is', 'new', 'with']);

const TYPES = {
  Tensor: 'Tensor',
  'Tensor[]': 'readonly Tensor[]',
  Scalar: 'Scalar',
  'Scalar[]': 'readonly Scalar[]',
  int: 'number',
  'int[]': 'readonly number[]',
  float: 'number',
  'float[]': 'readonly number[]',
  bool: 'boolean',
  'bool[]': 'readonly boolean[]',
  str: 'string',
  ScalarType: 'DType',
  Device: 'Device',
  MemoryFormat: 'MemoryFormat',
  Generator: 'Generator',
};

function tsType(arg) {
  if (arg.name === 'reduction' && arg.type === 'int') return 'Reduction';
  if (arg.type === 'Tensor?[]') return 'readonly (Tensor | null)[]';
  const type = TYPES[arg.type];
  if (!type) throw new Error(`no TypeScript type for ${arg.type} ${arg.name}`);
  const base = arg.type === 'int[]' && arg.fixedSize > 0 ? `number | ${type}` : type;
  return arg.optional ? `${base} | null` : base;
}

/** The expression that hands an argument to the addon. */
function passed(arg, expression) {
  switch (arg.type) {
    case 'Tensor':
      return `h(${expression})`;
    case 'Tensor[]':
    case 'Tensor?[]':
      return `hs(${expression})`;
    case 'Generator':
      return `g(${expression})`;
    default:
      return expression;
  }
}

function jsArgument(arg) {
  const name = camelCase(arg.name);
  return RESERVED.has(name) ? `${name}_` : name;
}

function returnType({ returns, writes }, self) {
  if (writes) return self;
  if (returns.length === 0) return 'void';
  const types = returns.map((result) => {
    if (result.type === 'Tensor') return 'Tensor';
    if (result.type === 'Tensor[]') return 'Tensor[]';
    if (result.type === 'bool') return 'boolean';
    if (['int', 'float', 'Scalar'].includes(result.type)) return 'number';
    throw new Error(`no TypeScript type for the result ${result.type}`);
  });
  return types.length === 1 ? types[0] : `[${types.join(', ')}]`;
}

function returned(variant, call, self) {
  if (variant.writes) return `${call};\nreturn ${self};`;
  if (variant.returns.length === 0) return `${call};\nreturn;`;
  const type = returnType(variant);
  if (type === 'Tensor') return `return wrap(${call});`;
  if (type === 'Tensor[]') return `return wrapAll(${call});`;
  if (type.startsWith('[')) return `return wrapAll(${call}) as ${type};`;
  return `return ${call};`;
}

/** Adds what the emitter needs to know of each variant. */
function prepare(operator) {
  // An argument that is keyword-only in one overload is so in all (`alpha` of add).
  const keywords = new Set(
    operator.variants.flatMap((v) => v.args.filter((a) => a.keyword).map((a) => a.name)),
  );
  return operator.variants.map((variant) => {
    const args = variant.args
      .filter((arg) => !(HIDDEN.has(arg.name) && arg.hasDefault))
      .map((arg) => ({ ...arg, keyword: arg.keyword || keywords.has(arg.name), js: jsArgument(arg) }));
    const positional = args.filter((arg) => !arg.keyword);
    const keyword = args.filter((arg) => arg.keyword);
    // Optional ones from the first after which all have a default or may be None.
    let optionalFrom = positional.length;
    while (optionalFrom > 0) {
      const arg = positional[optionalFrom - 1];
      if (!arg.hasDefault && !arg.optional) break;
      optionalFrom--;
    }
    const requiredKeywords = keyword.some((arg) => !arg.hasDefault && !arg.optional);
    const suffix = operator.variants.length > 1 && variant.overload ? `_${variant.overload}` : '';
    return {
      ...variant,
      args,
      positional: positional.map((arg, i) => ({ ...arg, optionalHere: i >= optionalFrom })),
      keyword,
      requiredKeywords,
      constant: `$${operator.name}${suffix}`,
    };
  });
}

function optionsType(variant) {
  const fields = variant.keyword.map((arg) => {
    const mark = arg.hasDefault || arg.optional ? '?' : '';
    return `${camelCase(arg.name)}${mark}: ${tsType(arg)}`;
  });
  return `{ ${fields.join('; ')} }`;
}

/** `group`: variants of the same shape, whose types are joined. */
function parameters(group, skipSelf) {
  const [variant] = group;
  const list = variant.positional.slice(skipSelf ? 1 : 0).map((arg, i) => {
    const variants = group.map((v) => v.positional[skipSelf ? i + 1 : i]);
    const types = variants.flatMap((v) => tsType(v).split(' | '));
    if (arg.optionalHere) types.push('null');
    const union = [...new Set(types)].filter((type) => type !== 'number' || !types.includes('Scalar'));
    union.sort((a, b) => Number(a === 'null') - Number(b === 'null'));
    return `${arg.js}${arg.optionalHere ? '?' : ''}: ${union.join(' | ')}`;
  });
  if (variant.keyword.length)
    list.push(`options${variant.requiredKeywords ? '' : '?'}: ${optionsType(variant)}`);
  return list.join(', ');
}

/** Variants that one signature can stand for: same result, same parameters but for the type of one. */
function groups(variants) {
  const key = (variant) =>
    [
      variant.positional.map((arg) => arg.optionalHere).join(),
      variant.keyword.length ? optionsType(variant) : '',
      returnType(variant, 'self'),
    ].join(';');
  const differences = (a, b) => a.positional.filter((arg, i) => arg.type !== b.positional[i].type).length;
  const result = [];
  for (const variant of variants) {
    const group = result.find(([first]) => key(first) === key(variant) && differences(first, variant) <= 1);
    if (group) group.push(variant);
    else result.push([variant]);
  }
  return result;
}

/** The call of one variant; `names[i]` is the expression of positional argument i. */
function callOf(variant, names, options) {
  const values = variant.args.map((arg) => {
    const index = variant.positional.findIndex((candidate) => candidate.name === arg.name);
    if (index >= 0) return passed(arg, names[index]);
    return passed(arg, `${options}${variant.requiredKeywords ? '' : '?'}.${camelCase(arg.name)}`);
  });
  // `full` without a type would be int64 for full([2], 1): a value must not choose the type.
  if (variant.constant === '$full') {
    const at = variant.args.findIndex((arg) => arg.name === 'dtype');
    values[at] += ` ?? 'float32'`;
  }
  return `${variant.constant}.f(${values.join(', ')})`;
}

function typeTest(arg, name) {
  const tests = {
    Tensor: `${name} instanceof Tensor`,
    'Tensor[]': `isTensors(${name})`,
    'Tensor?[]': `Array.isArray(${name})`,
    Scalar: `isScalar(${name})`,
    int: `typeof ${name} === 'number'`,
    float: `typeof ${name} === 'number'`,
    bool: `typeof ${name} === 'boolean'`,
    str: `typeof ${name} === 'string'`,
    ScalarType: `typeof ${name} === 'string'`,
  };
  const list =
    arg.fixedSize > 0 ? `typeof ${name} === 'number' || Array.isArray(${name})` : `Array.isArray(${name})`;
  const test = arg.type.endsWith('[]') && !tests[arg.type] ? `(${list})` : tests[arg.type];
  if (!test) throw new Error(`no test for ${arg.type}`);
  const canBeAbsent = arg.optional || arg.optionalHere;
  return canBeAbsent ? `(${name} === undefined || ${name} === null || ${test})` : test;
}

/** The condition under which a call means this variant and not a later one. */
function condition(variant, later, names) {
  const tests = [];
  const most = Math.max(...[variant, ...later].map((v) => v.positional.length));
  for (let i = 0; i < most; i++) {
    const own = variant.positional[i];
    const others = later.map((v) => v.positional[i]);
    if (!own) {
      if (i === variant.positional.length) tests.push(`isOptions(${names[i]})`);
    } else if (others.some((other) => !other || other.type !== own.type)) {
      tests.push(typeTest(own, names[i]));
    }
  }
  return tests.join(' && ') || 'true';
}

function emitOperator(operator) {
  const variants = prepare(operator);
  const lines = [];
  for (const variant of variants) {
    const names = variant.args.map((arg) => arg.name).join(' ');
    lines.push(`const ${variant.constant} = op('${operator.name}', '${variant.overload}', '${names}');`);
  }
  const fn = RESERVED.has(operator.jsName) ? `${operator.jsName}_op` : operator.jsName;
  const exported = fn === operator.jsName ? 'export ' : '';
  const doc = `/** ${operator.doc} */`;
  if (variants.length === 1) {
    const [variant] = variants;
    const names = variant.positional.map((arg) => arg.js);
    const self = names[0];
    const selfType = variant.positional[0]?.type === 'Tensor[]' ? 'void' : 'Tensor';
    const body =
      selfType === 'void' && variant.writes
        ? `${callOf(variant, names, 'options')};`
        : returned(variant, callOf(variant, names, 'options'), self);
    lines.push(
      `${doc}\n${exported}function ${fn}(${parameters([variant])}): ${returnType(variant, selfType)} {\n${body}\n}`,
    );
  } else {
    const most = Math.max(...variants.map((v) => v.positional.length + (v.keyword.length ? 1 : 0)));
    const names = Array.from({ length: most }, (_, i) => `a${i}`);
    for (const group of groups(variants)) {
      const self = group[0].positional[0]?.type === 'Tensor[]' ? 'void' : 'Tensor';
      lines.push(`${doc}\n${exported}function ${fn}(${parameters(group)}): ${returnType(group[0], self)};`);
    }
    lines.push(`${exported}function ${fn}(${names.map((name) => `${name}?: Arg`).join(', ')}): Arg {`);
    variants.forEach((variant, i) => {
      const call = callOf(variant, names, names[variant.positional.length] ?? 'undefined');
      const body = returned(variant, call, 'a0');
      const later = variants.slice(i + 1);
      lines.push(later.length ? `if (${condition(variant, later, names)}) {\n${body}\n}` : body);
    });
    lines.push('}');
  }
  if (!exported) lines.push(`\nexport { ${fn} as ${operator.jsName} };`);
  return { text: lines.join('\n'), fn, variants: variants.filter(isMethod) };
}

function isMethod(variant) {
  const first = variant.positional[0];
  return first?.name === 'self' && first.type === 'Tensor';
}

/** The whole file; `version` is the libtorch's that the schemas are from. */
export function emitFile(operators, version) {
  const parts = [
    `// Generated by scripts/generate-ops.mjs from the operator schemas of libtorch ${version} and
// scripts/operators.txt. Do not edit.
// biome-ignore-all lint: generated
/** libtorch's operators, as functions and as methods of Tensor. */
import type { Device, DType, MemoryFormat, Reduction, Scalar } from '../dtype.js';
import type { Generator } from '../random.js';
import { Tensor, wrap, wrapAll } from '../tensor.js';
import { type Arg, g, h, hs, op } from './bind.js';

function isOptions(value: Arg): boolean {
  if (value === undefined) return true;
  return typeof value === 'object' && value !== null && !(value instanceof Tensor) && !Array.isArray(value);
}

function isScalar(value: Arg): boolean {
  return typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean';
}

function isTensors(value: Arg): boolean {
  return Array.isArray(value) && (value.length === 0 || value[0] instanceof Tensor);
}`,
  ];
  const declarations = [];
  const methods = [];
  let section = '';
  for (const operator of operators) {
    if (operator.section !== section) {
      section = operator.section;
      parts.push(`// ---- ${section} ----`);
    }
    const { text, fn, variants } = emitOperator(operator);
    parts.push(text);
    if (!variants.length) continue;
    for (const group of groups(variants)) {
      const result = returnType(group[0], 'this');
      declarations.push(`/** ${operator.doc} */\n${operator.jsName}(${parameters(group, true)}): ${result};`);
    }
    const most = Math.max(...variants.map((v) => v.positional.length + (v.keyword.length ? 1 : 0)));
    const names = Array.from({ length: most - 1 }, (_, i) => `a${i + 1}`);
    methods.push(
      `methods.${operator.jsName} = function (${['this: Tensor', ...names.map((name) => `${name}?: Arg`)].join(', ')}) {\nreturn (${fn} as Arg)(${['this', ...names].join(', ')});\n};`,
    );
  }
  parts.push(`declare module '../tensor.js' {\ninterface Tensor {\n${declarations.join('\n')}\n}\n}`);
  parts.push(`const methods = Tensor.prototype as Arg;\n${methods.join('\n')}`);
  return `${parts.join('\n\n')}\n`;
}
