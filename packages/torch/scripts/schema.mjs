/** Parses the text of an operator schema, such as `aten::add.Tensor(Tensor self, *, Scalar alpha=1) -> Tensor`. */

/** `group_norm` → `groupNorm`; leading and trailing underscores stay (`_fused_adam_` → `_fusedAdam_`). */
export function camelCase(name) {
  return name.replace(/(?<=[a-z0-9])_([a-z0-9])/g, (_, letter) => letter.toUpperCase());
}

/** Splits at commas outside of brackets. */
function splitArguments(text) {
  const parts = [];
  let depth = 0;
  let start = 0;
  for (let i = 0; i <= text.length; i++) {
    const c = text[i];
    if (c === '(' || c === '[') depth++;
    if (c === ')' || c === ']') depth--;
    if (i === text.length || (c === ',' && depth === 0)) {
      const part = text.slice(start, i).trim();
      if (part) parts.push(part);
      start = i + 1;
    }
  }
  return parts;
}

function parseType(text) {
  const alias = /\(([^)]*)\)/.exec(text);
  let type = text.replace(/\([^)]*\)/, '').replace(/SymInt/g, 'int');
  const optional = type.endsWith('?');
  if (optional) type = type.slice(0, -1);
  const list = /\[(\d*)\]$/.exec(type);
  return {
    type: list ? `${type.slice(0, list.index)}[]` : type,
    fixedSize: list ? Number(list[1] || 0) : 0,
    optional,
    writes: alias?.[1].includes('!') ?? false,
  };
}

/** {args: [{name, type, optional, fixedSize, hasDefault, default, keyword}], returns: [type], writes} */
export function parseSchema(text) {
  const arrow = text.lastIndexOf(') -> ');
  const open = text.indexOf('(');
  const args = [];
  let keyword = false;
  for (const part of splitArguments(text.slice(open + 1, arrow))) {
    if (part === '*') {
      keyword = true;
      continue;
    }
    const equals = part.indexOf('=');
    const declaration = equals < 0 ? part : part.slice(0, equals);
    const space = declaration.lastIndexOf(' ');
    args.push({
      ...parseType(declaration.slice(0, space)),
      name: declaration.slice(space + 1),
      hasDefault: equals >= 0,
      default: equals < 0 ? undefined : part.slice(equals + 1),
      keyword,
    });
  }
  const result = text.slice(arrow + 5).trim();
  const returns = (result.startsWith('(') ? splitArguments(result.slice(1, -1)) : [result]).map((part) => {
    const parsed = parseType(part.split(' ')[0] === part ? part : part.replace(/ \w+$/, ''));
    return parsed;
  });
  return { args, returns, writes: returns.some((type) => type.writes) };
}
