/** What an exported ONNX file says of its network: the JSON in its metadata (docs/formats.md, "ONNX"). */

import type { OnnxDecoderInfo, OnnxDenoiserInfo } from 'patch-diffusion/samplers';
import { PbfReader } from 'pbf';
import { ModelError } from './errors.js';

/** Fields of ONNX's protobuf messages. */
const MODEL = { irVersion: 1, graph: 7, metadataProps: 14 } as const;
const PROPERTY = { key: 1, value: 2 } as const;

const METADATA_KEY = 'patch_diffusion';
/** The newest layout of the description that is understood. */
const FORMAT_VERSION = 1;

/** What an ONNX file says of itself. */
export interface OnnxDescription<Info> {
  readonly info: Info;
  /** Text of the network's licence, where it was given at export. */
  readonly license: string | null;
}

/**
 * The description of a denoiser.
 * @param name of the file, for messages
 * @throws ModelError where this is no ONNX file, or one of another kind
 */
export function describeDenoiser(file: Uint8Array, name: string): OnnxDescription<OnnxDenoiserInfo> {
  const { info, license } = describe(file, name);
  if (info.kind === 'onnx-denoiser') return { info: info as OnnxDenoiserInfo, license };
  throw new ModelError(
    'FOREIGN_MODEL',
    `${name} is the decoder of a model that was trained on latents; load the model and give this as its decoder`,
  );
}

/** The description of a decoder. @throws ModelError as {@link describeDenoiser} does */
export function describeDecoder(file: Uint8Array, name: string): OnnxDecoderInfo {
  const { info } = describe(file, name);
  if (info.kind === 'onnx-decoder') return info as OnnxDecoderInfo;
  throw new ModelError('FOREIGN_MODEL', `${name} is a model, not a decoder; its name ends in -decoder.onnx`);
}

function describe(file: Uint8Array, name: string): OnnxDescription<{ readonly kind: string }> {
  const metadata = readMetadata(file, name);
  const text = metadata.get(METADATA_KEY);
  const info: unknown = text === undefined ? null : parse(text);
  const { kind, formatVersion } = (info ?? {}) as { kind?: unknown; formatVersion?: unknown };
  if ((kind !== 'onnx-denoiser' && kind !== 'onnx-decoder') || typeof formatVersion !== 'number') {
    throw new ModelError(
      'FOREIGN_MODEL',
      `${name} is an ONNX file of another program; use one that patch-diffusion export --format onnx wrote`,
    );
  }
  if (formatVersion > FORMAT_VERSION) {
    throw new ModelError(
      'NEWER_FORMAT',
      `${name} has format ${formatVersion}, and this version reads up to ${FORMAT_VERSION}; use a newer @patch-diffusion/browser`,
    );
  }
  return { info: { ...(info as object), kind }, license: metadata.get('license') ?? null };
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The key–value pairs of an ONNX file; the graph is passed over. */
function readMetadata(file: Uint8Array, name: string): Map<string, string> {
  const metadata = new Map<string, string>();
  let hasGraph = false;
  try {
    const pbf = new PbfReader(file);
    pbf.readFields((field, _, reader) => {
      if (field === MODEL.graph) hasGraph = true;
      if (field === MODEL.metadataProps) {
        const { key, value } = reader.readMessage(readProperty, { key: '', value: '' });
        metadata.set(key, value);
      }
    }, null);
    // A length that leads beyond the end.
    if (pbf.pos !== file.length) hasGraph = false;
  } catch {
    hasGraph = false;
  }
  if (hasGraph) return metadata;
  throw new ModelError('BAD_FILE', `${name} ${whatItIs(file)}`);
}

function readProperty(field: number, property: { key: string; value: string }, reader: PbfReader): void {
  if (field === PROPERTY.key) property.key = reader.readString();
  if (field === PROPERTY.value) property.value = reader.readString();
}

function whatItIs(file: Uint8Array): string {
  if (file.length === 0) return 'is empty';
  const start = new TextDecoder().decode(file.subarray(0, 200)).trimStart();
  if (/^<(!doctype|html|\?xml)/i.test(start))
    return 'is a web page, not an ONNX file; check the address of the model';
  if (start.startsWith('version https://git-lfs'))
    return 'is a pointer of git-lfs, not the file itself; fetch it with git lfs pull';
  return 'is no ONNX file, or it is cut off; fetch it anew';
}
