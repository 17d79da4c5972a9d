/** onnxruntime-node, an optional package: without it the tests that run ONNX files are skipped, and say so. */

import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { InferenceSession, InferenceSessionFactory, TensorConstructor } from 'onnxruntime-common';

interface OnnxRuntime {
  readonly InferenceSession: InferenceSessionFactory;
  readonly Tensor: TensorConstructor;
}

// Not as a literal: the type check must not need the package.
const name: string = 'onnxruntime-node';
const runtime = (await import(name).catch(() => null)) as OnnxRuntime | null;
if (!runtime) console.warn('skipped: onnxruntime-node is not installed (npm install)');

export const hasOnnxRuntime = runtime !== null;

/** An ONNX file ready to run on float32 tensors. */
export class OnnxSession {
  private constructor(readonly session: InferenceSession) {}

  static async open(file: string): Promise<OnnxSession> {
    return new OnnxSession(
      await runtime!.InferenceSession.create(file, {
        intraOpNumThreads: 1,
        interOpNumThreads: 1,
        logSeverityLevel: 3,
      }),
    );
  }

  /** The only output for inputs by name. */
  async run(inputs: Readonly<Record<string, Tensor>>): Promise<Tensor> {
    const feeds = Object.entries(inputs).map(([key, value]) => {
      return [key, new runtime!.Tensor('float32', value.toFloat32Array(), value.shape)] as const;
    });
    const results = await this.session.run(Object.fromEntries(feeds));
    const { data, dims } = results[this.session.outputNames[0]];
    return torch.tensor(data as Float32Array, { shape: dims });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.session.release();
  }
}
