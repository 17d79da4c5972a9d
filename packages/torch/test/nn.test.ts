import { describe, expect, it } from 'vitest';
import * as torch from '../src/index.js';
import { liveTensors, Module, ModuleDict, ModuleList, StateDictError, type Tensor } from '../src/index.js';
import './close.js';

class Linear extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor;

  constructor(inFeatures: number, outFeatures: number) {
    super();
    this.weight = this.addParameter('weight', torch.ones([outFeatures, inFeatures]));
    this.bias = this.addParameter('bias', torch.zeros([outFeatures]));
  }

  forward(x: Tensor): Tensor {
    return torch.linear(x, this.weight, this.bias);
  }
}

class Net extends Module {
  readonly first: Linear;
  readonly blocks: ModuleList<Linear>;
  readonly heads: ModuleDict<Linear>;
  readonly scale: Tensor;
  readonly gain: Tensor;

  constructor() {
    super();
    this.first = this.addModule('first', new Linear(2, 3));
    this.blocks = this.addModule('blocks', new ModuleList([new Linear(3, 3), new Linear(3, 3)]));
    this.heads = this.addModule('heads', new ModuleDict([['a', new Linear(3, 1)]]));
    this.scale = this.addBuffer('scale', torch.full([1], 2));
    this.gain = this.addParameter('gain', torch.ones([1]));
  }

  forward(x: Tensor): Tensor {
    let h = this.first.forward(x);
    for (const block of this.blocks) h = block.forward(h);
    return this.heads.get('a')!.forward(h).mul(this.scale).mul(this.gain);
  }
}

const NAMES = [
  'gain',
  'scale',
  'first.weight',
  'first.bias',
  'blocks.0.weight',
  'blocks.0.bias',
  'blocks.1.weight',
  'blocks.1.bias',
  'heads.a.weight',
  'heads.a.bias',
];

describe('Module', () => {
  it("names tensors in PyTorch's order", () => {
    using net = new Net();
    expect([...net.stateDict().keys()]).toEqual(NAMES);
    expect(Array.from(net.namedParameters(), ([name]) => name)).toEqual(
      NAMES.filter((name) => name !== 'scale'),
    );
    expect(Array.from(net.namedBuffers(), ([name]) => name)).toEqual(['scale']);
    expect(Array.from(net.namedModules(), ([name]) => name)).toEqual([
      ...['', 'first', 'blocks', 'blocks.0', 'blocks.1', 'heads', 'heads.a'],
    ]);
    expect(net.numParams()).toBe(1 + 9 + 12 + 12 + 4);
    expect(net.blocks.length).toBe(2);
    expect(net.blocks.at(-1)).toBe([...net.blocks][1]);
    expect(Array.from(net.heads, ([name]) => name)).toEqual(['a']);
  });

  it('keeps its tensors past the scope that made it, and frees them when disposed', () => {
    const before = liveTensors();
    const net = torch.scope(() => new Net());
    expect(liveTensors() - before).toBe(NAMES.length);
    torch.scope(() =>
      net
        .forward(torch.ones([1, 2]))
        .sum()
        .backward(),
    );
    expect(liveTensors() - before).toBe(NAMES.length);
    net.dispose();
    net.dispose();
    expect(liveTensors()).toBe(before);
  });

  it('trains parameters, not buffers, and switches modes everywhere', () => {
    using net = new Net();
    torch.scope(() => {
      net
        .forward(torch.ones([1, 2]))
        .sum()
        .backward();
      expect(net.parameters().every(({ grad }) => grad !== null)).toBe(true);
      expect(net.gain.grad!).toBeCloseToTensor([2 * 3 * 3 * 3 * 2]); // out = 2·(ones chain: 2 → 2 → 6 → 18 → 54)
      expect(net.scale.requiresGrad).toBe(false);
    });
    net.zeroGrad();
    expect(net.parameters().every(({ grad }) => grad === null)).toBe(true);
    expect(net.eval().heads.get('a')!.training).toBe(false);
    expect(net.train().blocks.at(1)!.training).toBe(true);
    net.requiresGrad(false);
    expect(net.parameters().some(({ requiresGrad }) => requiresGrad)).toBe(false);
  });

  it('converts in place, so that fields and optimisers keep their tensors', () => {
    using net = new Net();
    const { weight } = net.first;
    net.to({ dtype: 'float64' });
    expect(net.first.weight).toBe(weight);
    expect(weight.dtype).toBe('float64');
    expect(weight.requiresGrad).toBe(true);
    expect(weight.isLeaf).toBe(true);
    expect(net.scale.dtype).toBe('float64');
    torch.scope(() => {
      net
        .forward(torch.ones([1, 2], { dtype: 'float64' }))
        .sum()
        .backward();
      expect(weight.grad!.dtype).toBe('float64');
    });
  });

  it('refuses names that would clash', () => {
    class Twice extends Module {
      constructor(name: string) {
        super();
        this.addBuffer('a', torch.zeros([]));
        this.addModule(name, new ModuleList());
      }
    }
    expect(() => new Twice('a')).toThrow(/Twice: the name "a" is registered twice/);
    expect(() => new Twice('a.b')).toThrow(/dot/);
  });

  it('prints a table', () => {
    using net = new Net();
    expect(net.summary()).toBe(
      [
        'Module    Type    Parameters  Buffers  Shape',
        '---------------------------------------------',
        'first     Linear           9        0  [3, 2]',
        'blocks.0  Linear          12        0  [3, 3]',
        'blocks.1  Linear          12        0  [3, 3]',
        'heads.a   Linear           4        0  [1, 3]',
        '(own)     Net              1        1',
        '---------------------------------------------',
        'total     Net             38        1',
      ].join('\n'),
    );
    expect(net.summary(1).split('\n')).toHaveLength(8);
  });
});

describe('loadStateDict', () => {
  const source = () => {
    const net = new Net();
    torch.noGrad(() => {
      for (const tensor of net.stateDict().values()) tensor.fill_(0.25);
    });
    return net;
  };

  it('copies values, converting the element type', () => {
    using from = source();
    using to = new Net();
    const dict = new Map(from.stateDict());
    const half = dict.get('gain')!.detach().to({ dtype: 'float16' });
    dict.set('gain', half);
    const before = liveTensors();
    expect(to.loadStateDict(dict)).toEqual({ matched: NAMES, missing: [], unexpected: [], mismatched: [] });
    expect(liveTensors()).toBe(before);
    for (const tensor of to.stateDict().values())
      expect(tensor).toBeCloseToTensor(Array(tensor.numel).fill(0.25));
    expect(to.gain.dtype).toBe('float32');
    expect(to.gain.requiresGrad).toBe(true);
    half.dispose();
  });

  it('throws in strict mode naming what does not fit, before it copies anything', () => {
    using from = source();
    using to = new Net();
    using odd = torch.zeros([2, 2]);
    const dict = new Map(from.stateDict()).set('first.weight', odd).set('extra', odd);
    dict.delete('scale');
    const report = {
      matched: NAMES.filter((name) => name !== 'scale' && name !== 'first.weight'),
      missing: ['scale'],
      unexpected: ['extra'],
      mismatched: ['first.weight'],
    };
    try {
      to.loadStateDict(dict);
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(StateDictError);
      expect((error as StateDictError).report).toEqual(report);
      expect((error as Error).message).toBe(
        'the weights do not fit Net: 1 missing (scale); 1 unexpected (extra); ' +
          '1 of another shape (first.weight [2,2] for [3,2]); check that the options match those the weights were made with',
      );
    }
    expect(to.gain).toBeCloseToTensor([1]);
    expect(to.loadStateDict(dict, { strict: false })).toEqual(report);
    expect(to.gain).toBeCloseToTensor([0.25]);
    expect(to.scale).toBeCloseToTensor([2]);
  });

  it('reads the part of a dict that has a prefix', () => {
    using from = source();
    using to = new Net();
    const dict = new Map(Array.from(from.stateDict(), ([name, tensor]) => [`ema.${name}`, tensor]));
    dict.set('other', from.gain);
    expect(to.loadStateDict(dict, { prefix: 'ema.' }).matched).toEqual(NAMES);
    expect(to.gain).toBeCloseToTensor([0.25]);
    expect(() => to.loadStateDict(dict)).toThrow(/10 missing \(gain, scale, first.weight, and 7 more\)/);
  });
});
