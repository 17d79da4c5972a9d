/** A graph as an ONNX file. */
import { create, toBinary } from '@bufbuild/protobuf';
import { writeFileAtomic } from '@patch-diffusion/torch';
import { UserError } from '../../common/errors.js';
import { version } from '../../common/version.js';
import type { OnnxGraph } from './graph.js';
import { ModelProtoSchema, Version } from './onnx_pb.js';

/** Version of ONNX's operators, of December 2022, and of its files that came with it. */
const OPSET = 18n;
const IR_VERSION = BigInt(Version.IR_VERSION_2021_7_30);

/** A message of protobuf must be smaller. A thousandth is for the nodes and names. */
const MAX_BYTES = 2 ** 31 * 0.999;

/**
 * Writes the file; it appears whole or not at all.
 * @param metadata texts by their keys
 * @returns the number of its tensors
 * @throws UserError when it would be larger than an ONNX file can be
 */
export async function writeOnnx(
  file: string,
  onnxGraph: OnnxGraph,
  metadata: Readonly<Record<string, string>>,
): Promise<number> {
  const { graph, tensors, bytes } = onnxGraph.build();
  if (bytes > MAX_BYTES) {
    throw new UserError(
      'TOO_LARGE_FOR_ONNX',
      `${file}: the weights take ${(bytes / 1e9).toFixed(1)} GB, and an ONNX file holds 2 GB; use --precision fp16 or int8`,
    );
  }
  const model = create(ModelProtoSchema, {
    ...{ irVersion: IR_VERSION, opsetImport: [{ domain: '', version: OPSET }] },
    ...{ producerName: 'patch-diffusion', producerVersion: version, graph },
    metadataProps: Object.entries(metadata).map(([key, value]) => ({ key, value })),
  });
  await writeFileAtomic(file, toBinary(ModelProtoSchema, model));
  return tensors;
}
