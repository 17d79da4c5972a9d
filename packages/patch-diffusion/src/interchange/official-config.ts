/** Constructor arguments of the official networks and preconditioners, as found in their checkpoints, to ours. */
import { z } from 'zod';
import { UserError } from '../common/errors.js';
import type { LossSpec } from '../diffusion/losses.js';
import { checkPrecondSpec } from '../diffusion/precond-schema.js';
import type { PrecondSpec } from '../diffusion/precond-spec.js';
import { checkFields } from '../formats/file-description.js';
import { show } from '../formats/pickle/budget.js';
import type { NetworkSpec } from '../networks/index.js';

/** Keyword arguments in the official spelling. */
type OfficialArguments = Readonly<Record<string, unknown>>;

/** `channel_mult_emb` → `channelMultEmb`; values stay. */
export function camelCaseKeys(args: OfficialArguments): Record<string, unknown> {
  const camel = (key: string) => key.replace(/_([a-zA-Z0-9])/g, (_, letter: string) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(args).map(([key, value]) => [camel(key), value]));
}

/** A bare network by its official class name. @throws UserError for an unknown class */
export function networkFromOfficial(
  className: string,
  args: OfficialArguments,
  file = 'description',
): NetworkSpec {
  if (className !== 'SongUNet' && className !== 'DhariwalUNet') {
    throw new UserError(
      'UNKNOWN_NETWORK',
      `${file}: the network class ${show(className)} is not known; SongUNet and DhariwalUNet are`,
    );
  }
  return { type: className, ...camelCaseKeys(args) } as unknown as NetworkSpec;
}

const PRECOND_TYPES = {
  VPPrecond: { type: 'vp', network: 'SongUNet' },
  VEPrecond: { type: 've', network: 'SongUNet' },
  iDDPMPrecond: { type: 'iddpm', network: 'DhariwalUNet' },
  EDMPrecond: { type: 'edm', network: 'DhariwalUNet' },
  Patch_EDMPrecond: { type: 'pedm', network: 'DhariwalUNet' },
} as const;

/**
 * A preconditioner with its network by its official class name.
 * @param args the preconditioner's own arguments
 * @param modelArgs the network's; its sizes follow from `args`
 * @param file name for messages
 * @throws UserError for an unknown class
 */
export function precondFromOfficial(
  className: string,
  args: OfficialArguments,
  modelArgs: OfficialArguments,
  file = 'description',
): PrecondSpec {
  if (!Object.hasOwn(PRECOND_TYPES, className)) {
    const known = Object.keys(PRECOND_TYPES).join(', ');
    throw new UserError(
      'UNKNOWN_NETWORK',
      `${file}: the preconditioner class ${show(className)} is not known; ${known} are`,
    );
  }
  const { type, network } = PRECOND_TYPES[className as keyof typeof PRECOND_TYPES];
  const {
    img_resolution,
    img_channels,
    out_channels,
    label_dim,
    use_fp16: _,
    model_type,
    ...constants
  } = args;
  const inChannels = img_channels as number;
  const sizes = {
    img_resolution,
    in_channels: inChannels,
    out_channels: type === 'iddpm' ? inChannels * 2 : (out_channels ?? inChannels),
    label_dim: label_dim ?? 0,
  };
  const spec = networkFromOfficial(String(model_type ?? network), { ...modelArgs, ...sizes }, file);
  // JSON has no infinity; null stands for it.
  const finite = Object.entries(constants).map(([key, value]) => [
    key,
    value === 'inf' || value === Infinity ? null : value,
  ]);
  return { type, network: spec, ...camelCaseKeys(Object.fromEntries(finite)) } as unknown as PrecondSpec;
}

const LOSS_TYPES: Readonly<Record<string, LossSpec['type']>> = {
  Patch_EDMLoss: 'edm',
  EDMLoss: 'edm',
  VELoss: 've',
  VPLoss: 'vp',
};

/** Official names of the losses' constants and ours. */
const LOSS_CONSTANTS = {
  edm: { P_mean: 'pMean', P_std: 'pStd', sigma_data: 'sigmaData' },
  ve: { sigma_min: 'sigmaMin', sigma_max: 'sigmaMax' },
  vp: { beta_d: 'betaD', beta_min: 'betaMin', epsilon_t: 'epsilonT' },
} as const satisfies Record<LossSpec['type'], Record<string, string>>;

/** A loss by its official class name, with those of its constants that `args` has; null for an unknown class. */
export function lossFromOfficial(className: string, args: OfficialArguments): LossSpec | null {
  if (!Object.hasOwn(LOSS_TYPES, className)) return null;
  const type = LOSS_TYPES[className];
  const constants = Object.entries(LOSS_CONSTANTS[type])
    .filter(([key]) => typeof args[key] === 'number')
    .map(([key, name]) => [name, args[key]]);
  return { type, ...Object.fromEntries(constants) };
}

/** Arguments of the preconditioners themselves; all others go to their network. */
const OWN_ARGUMENTS = new Set([
  ...[
    'img_resolution',
    'img_channels',
    'out_channels',
    'label_dim',
    'use_fp16',
    'sigma_min',
    'sigma_max',
    'sigma_data',
  ],
  ...['model_type', 'beta_d', 'beta_min', 'M', 'epsilon_t', 'C_1', 'C_2'],
]);

/** Splits one list of arguments, as checkpoints record it, into the preconditioner's own and its network's. */
export function splitArguments(args: OfficialArguments): {
  own: Record<string, unknown>;
  model: Record<string, unknown>;
} {
  const entries = Object.entries(args);
  return {
    own: Object.fromEntries(entries.filter(([key]) => OWN_ARGUMENTS.has(key))),
    model: Object.fromEntries(entries.filter(([key]) => !OWN_ARGUMENTS.has(key))),
  };
}

const CLASS_NAMES: Readonly<Record<PrecondSpec['type'], string>> = {
  vp: 'VPPrecond',
  ve: 'VEPrecond',
  iddpm: 'iDDPMPrecond',
  edm: 'EDMPrecond',
  pedm: 'Patch_EDMPrecond',
};

/**
 * The way back: class name and keyword arguments in the official spelling, as one flat JSON-able object. An infinite
 * `sigma_max` is `"inf"`; images that are not square add `image: { height, width }`.
 */
export function officialFromPrecond(spec: PrecondSpec): Record<string, unknown> {
  const { type, network, image, ...constants } = spec;
  const { type: modelType, imgResolution, inChannels, outChannels, labelDim, ...model } = network;
  const snake = (key: string) =>
    key.replace(/^C(\d)$/, 'C_$1').replace(/(?!^)[A-Z]/g, (c) => `_${c.toLowerCase()}`);
  const named = (args: object) =>
    Object.fromEntries(Object.entries(args).map(([key, value]) => [snake(key), value ?? 'inf']));
  return {
    class_name: CLASS_NAMES[type],
    img_resolution: imgResolution,
    img_channels: inChannels,
    ...(type === 'pedm' ? { out_channels: outChannels } : {}),
    label_dim: labelDim ?? 0,
    ...named(constants),
    model_type: modelType,
    ...named(model),
    ...(image ? { image } : {}),
  };
}

/** Reads what {@link officialFromPrecond} writes. @throws UserError for an unknown class */
export function precondFromJson(json: OfficialArguments, file?: string): PrecondSpec {
  const { class_name, image, ...args } = json;
  const { own, model } = splitArguments(args);
  const spec = precondFromOfficial(String(class_name), own, model, file);
  return image === undefined ? spec : ({ ...spec, image } as PrecondSpec);
}

/** {@link precondFromJson} of text, checked. @throws UserError for text of another form, and for arguments out of range */
export function precondFromText(text: string, file: string): PrecondSpec {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    const { message } = cause as Error;
    throw new UserError(
      'BAD_CHECKPOINT',
      `${file}: its network description is no JSON (${message}); export it again`,
      { cause },
    );
  }
  const args = checkFields(z.record(z.string(), z.unknown()), json, `${file}: the network's argument`);
  return checkPrecondSpec(precondFromJson(args, file), file);
}

/** The file with the network's arguments beside an exported state dict: `weights.pt` → `weights.json`. */
export function configFileOf(file: string): string {
  return `${file.replace(/\.(pt|pth|bin)$/, '')}.json`;
}
