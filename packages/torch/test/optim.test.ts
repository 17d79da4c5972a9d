import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as torch from '../src/index.js';
import {
  Adam,
  type AdamOptions,
  type AdamPath,
  AdamW,
  liveTensors,
  StateDictError,
  type Tensor,
} from '../src/index.js';
import './close.js';

const paths: AdamPath[] = ['plain', 'foreach', 'fused'];

// torch.optim of PyTorch 2.13 (foreach=False): three steps with lr 0, 0.1, 0.05 from [0.5, -1, 2, 0], the gradient of
// step t being [0.1, -0.2, 0.3, 0]·t + [0, 0.5, -0.1, 1e-4]; betas (0.8, 0.95), eps 1e-6.
const OPTIONS: AdamOptions = { lr: 0.1, betas: [0.8, 0.95], eps: 1e-6 };
const RATES = [0, 0.1, 0.05];
const START = [0.5, -1, 2, 0];
const gradient = (t: number): number[] => [0.1 * t, -0.2 * t + 0.5, 0.3 * t - 0.1, 1e-4];
const MOMENTS = {
  expAvg: [0.10480000823736191, 0.03439999744296074, 0.2655999958515167, 4.879999687545933e-5],
  expAvgSq: [0.006851250771433115, 0.005036250222474337, 0.045680005103349686, 1.4262498959638492e-9],
};
const CASES = {
  Adam: {
    make: (params: [string, Tensor][], path: AdamPath) => new Adam(params, { ...OPTIONS, path }),
    param: [0.3533751368522644, -1.1041096448898315, 1.856505274772644, -0.14851483702659607],
    ...MOMENTS,
  },
  'Adam with L2 penalty': {
    make: (params: [string, Tensor][], path: AdamPath) =>
      new Adam(params, { ...OPTIONS, path, weightDecay: 0.1 }),
    param: [0.3510781228542328, -1.0540063381195068, 1.8516721725463867, -0.06491823494434357],
    expAvg: [0.12721775472164154, -0.015673507004976273, 0.36122483015060425, -0.0019313979428261518],
    expAvgSq: [0.009767080657184124, 0.003934378270059824, 0.07951229065656662, 4.80389599033515e-6],
  },
  AdamW: {
    make: (params: [string, Tensor][], path: AdamPath) =>
      new AdamW(params, { ...OPTIONS, path, weightDecay: 0.1 }),
    param: [0.3463883101940155, -1.0887328386306763, 1.8270823955535889, -0.14801979064941406],
    ...MOMENTS,
  },
};

const parameter = (values: number[]): Tensor => torch.keep(torch.tensor(values)).setRequiresGrad();
const setGrad = (param: Tensor, values: number[]): void => {
  torch.scope(() => {
    param.grad = torch.tensor(values);
  });
};

describe.each(Object.entries(CASES))('%s', (_, { make, ...expected }) => {
  it.each(paths)("agrees with PyTorch's numbers on the %s path", (path) => {
    const param = parameter(START);
    const optimizer = make([['w', param]], path);
    expect(optimizer.path).toBe(path);
    RATES.forEach((lr, t) => {
      setGrad(param, gradient(t + 1));
      optimizer.step(lr);
      // A learning rate of 0 moves the moments only.
      if (t === 0) expect(param).toBeCloseToTensor(START, { atol: 0 });
    });
    const state = optimizer.stateDict();
    expect(param).toBeCloseToTensor(expected.param, { atol: 1e-6 });
    expect(state.get('exp_avg.w')!).toBeCloseToTensor(expected.expAvg, { atol: 1e-9, rtol: 1e-6 });
    expect(state.get('exp_avg_sq.w')!).toBeCloseToTensor(expected.expAvgSq, { atol: 1e-9, rtol: 1e-6 });
    expect(state.get('step')!).toBeCloseToTensor([3]);
    expect(optimizer.stepCount).toBe(3);
    optimizer.dispose();
    param.dispose();
  });
});

describe('the paths', () => {
  it('agree with each other to rounding', () => {
    const value = fc.float({ min: -10, max: 10, noNaN: true, noDefaultInfinity: true });
    const values = fc.array(value, { minLength: 3, maxLength: 3 });
    const rates = fc.array(fc.double({ min: 0, max: 0.1, noNaN: true }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(values, values, rates, fc.boolean(), (start, grad, lrs, decoupled) => {
        const [first, ...others] = paths.map((path) => {
          const param = parameter(start);
          const optimizer = new (decoupled ? AdamW : Adam)([['w', param]], { path, weightDecay: 0.01 });
          for (const lr of lrs) {
            setGrad(param, grad);
            optimizer.step(lr);
          }
          optimizer.dispose();
          const result = param.toFloat32Array();
          param.dispose();
          return result;
        });
        for (const other of others) {
          for (const [i, x] of other.entries()) expect(Math.abs(x - first![i])).toBeLessThan(2e-5);
        }
      }),
      { numRuns: 50 },
    );
  });
});

describe('Adam', () => {
  it('takes the fused path for float32 on a CPU, and where libtorch has it', () => {
    const [param, wide] = [
      parameter([1]),
      torch.keep(torch.ones([1], { dtype: 'float64' })).setRequiresGrad(),
    ];
    const optimizers = [param, wide].map((tensor) => new Adam([['w', tensor]]));
    expect(optimizers.map(({ path }) => path)).toEqual([
      'fused',
      torch.hasOp('_fused_adam_', 'cpu') ? 'fused' : 'plain',
    ]);
    for (const thing of [...optimizers, param, wide]) thing.dispose();
  });

  it('lets a moving average follow, in any memory order, also of parameters without a gradient', () => {
    torch.scope(() => {
      torch.manualSeed(2);
      const shapes = [[3], [2, 3, 5, 7], [130, 70]];
      const start = shapes.map((shape) => torch.randn(shape));
      const averageStart = shapes.map((shape) => torch.randn(shape));
      const results = paths.map((path) => {
        const params = start.map((t) =>
          t
            .to({ memoryFormat: t.shape.length === 4 ? 'channelsLast' : 'preserve' })
            .clone()
            .setRequiresGrad(),
        );
        const [averages, slower] = [0, 1].map(() => averageStart.map((t) => t.clone()));
        const optimizer = new Adam(
          params.map((param, i) => [`${i}`, param] as const),
          { path, lr: 0.1 },
        );
        for (const beta of [0, 0.3, 0.9, 1]) {
          torch.manualSeed(5);
          params.slice(1).forEach((param) => {
            param.grad = torch.randn(param.shape);
          });
          optimizer.step(0.1, [
            { averages: averages, beta },
            { averages: slower, beta: (1 + beta) / 2 },
          ]);
          if (beta === 0) expect(averages[1]!.toFloat32Array()).toEqual(params[1]!.detach().toFloat32Array());
        }
        optimizer.dispose();
        return [...params, ...averages, ...slower].map((t) => t.detach());
      });
      for (const other of results.slice(1)) {
        for (const [i, tensor] of other.entries())
          expect(tensor).toBeCloseToTensor(results[0]![i]!, { atol: 2e-6 });
      }
      expect(results[0]![0]!).toBeCloseToTensor(start[0]!, { atol: 0 });
      const optimizer = new Adam([['w', start[0]!.setRequiresGrad()]]);
      expect(() => optimizer.step(0.1, [{ averages: averageStart, beta: 0.5 }])).toThrow(
        /3 tensors of 1 averages for 1 param/,
      );
      optimizer.dispose();
    });
  });

  it('skips parameters without a gradient and leaks nothing', () => {
    const [a, b] = [parameter([1]), parameter([1])];
    for (const path of paths) {
      const optimizer = new Adam(
        [
          ['a', a],
          ['b', b],
        ],
        { lr: 0.5, path },
      );
      setGrad(a, [1]);
      optimizer.step();
      const live = liveTensors();
      for (let i = 0; i < 10; i++) optimizer.step();
      expect(liveTensors()).toBe(live);
      expect(b).toBeCloseToTensor([1], { atol: 0 });
      optimizer.zeroGrad();
      expect(a.grad).toBeNull();
      optimizer.dispose();
    }
    a.dispose();
    b.dispose();
  });

  it('passes NaN on as PyTorch does', () => {
    for (const path of paths) {
      const param = parameter([1, 1, 1]);
      const optimizer = new Adam([['w', param]], { path });
      setGrad(param, [Number.NaN, 1, 1]);
      optimizer.step(0.5);
      expect(param).toBeCloseToTensor([Number.NaN, 0.5, 0.5]);
      optimizer.dispose();
      param.dispose();
    }
  });

  it('minds neither the memory order of a gradient nor a change of that of the parameter', () => {
    const values = Float32Array.from({ length: 24 }, (_, i) => i + 1);
    for (const path of paths) {
      const [param, plain] = [1, 2].map(() =>
        torch.keep(torch.tensor(values, { shape: [1, 2, 3, 4] })).setRequiresGrad(),
      ) as [Tensor, Tensor];
      const optimizer = new Adam([['w', param]], { path, lr: 0.5 });
      const reference = new Adam([['w', plain]], { path: 'plain', lr: 0.5 });
      for (const gradients of [values, values.map((v) => v % 5), values.map((v) => v % 7)]) {
        torch.scope(() => {
          for (const p of [param, plain]) p.grad = torch.tensor(gradients, { shape: [1, 2, 3, 4] });
        });
        optimizer.step();
        reference.step();
        expect(param).toBeCloseToTensor(plain, { atol: 1e-6 });
        torch.scope(() => param.setData(param.detach().to({ memoryFormat: 'channelsLast' })));
      }
      expect(param.strides).not.toEqual(plain.strides);
      for (const thing of [optimizer, reference, param, plain]) thing.dispose();
    }
  });

  it('resumes from its state exactly', () => {
    for (const path of paths) {
      const run = (resume: boolean): Float32Array => {
        const param = parameter(START);
        let optimizer = new Adam([['w', param]], { ...OPTIONS, path });
        for (let t = 1; t <= 4; t++) {
          setGrad(param, gradient(t));
          optimizer.step();
          if (resume && t === 2) {
            const next = new Adam([['w', param]], { ...OPTIONS, path });
            next.loadStateDict(optimizer.stateDict());
            optimizer.dispose();
            optimizer = next;
          }
        }
        expect(optimizer.stepCount).toBe(4);
        optimizer.dispose();
        return param.toFloat32Array();
      };
      expect(run(true)).toEqual(run(false));
    }
  });

  it('refuses states and settings that make no sense, and says which', () => {
    const param = parameter(START);
    const optimizer = new Adam([['w', param]]);
    using zero = torch.zeros([4]);
    using step = torch.tensor([-1], { shape: [] });
    const state = new Map([
      ['exp_avg.w', zero],
      ['exp_avg_sq.w', zero],
      ['step', step],
    ]);
    expect(() => optimizer.loadStateDict(state)).toThrow(/step -1, not a count/);
    state.delete('exp_avg.w');
    expect(() => optimizer.loadStateDict(state)).toThrow(StateDictError);
    expect(() => optimizer.step(Number.NaN)).toThrow(/lr is NaN; it must be at least 0/);
    expect(optimizer.stepCount).toBe(0);
    expect(() => new Adam([['w', param]], { betas: [0.9, 1] })).toThrow(
      /betas\[1\] is 1; it must be in \[0, 1\)/,
    );
    expect(() => new Adam([])).toThrow(/no parameters/);
    expect(
      () =>
        new Adam([
          ['w', param],
          ['w', param],
        ]),
    ).toThrow(/two parameters are named "w"/);
    optimizer.dispose();
    param.dispose();
  });
});
