"""The same training step in PyTorch: the peer that `npm run bench` measures against.

Written for this benchmark from the published descriptions of DDPM++ / EDM (arXiv 2206.00364) and Patch Diffusion
(arXiv 2304.12526), the way a PyTorch user writes it. The setup says how it runs: as the official code does (float32,
contiguous, tensor by tensor in the optimiser and the average), or with channels-last memory, bfloat16 autocast, fused
Adam with list operators for the average, and torch.compile. Needs nothing but torch.

Talks JSON lines: the first input line is the setup, then one command per line, one answer line each.
  setup     {"config": {...}, "weights": file, "threads": n, "device": "cpu", "channels_last": false, "bf16": false,
             "fused": false, "compile": false}
  loss      {"op": "loss", "batch": file}                -> {"loss": sum, "grad_norm": norm; null where compiled}
  difference {"op": "difference", "estimates": file}     -> {"relative": difference of D(x; sigma)}
  evaluate  {"op": "evaluate", "estimates": file, "count": n} -> {"wall": s, "cpu": s}, of all n
  memory    {"op": "memory"}                             -> {"peak_bytes": largest resident memory so far}
  steps     {"op": "steps", "batch": file, "count": n}   -> {"wall": [s...], "cpu": [...]}
"""
import json
import math
import re
import resource
import sys
import time
import warnings

import torch
from torch import nn
from torch.nn import functional as F


class Norm(nn.GroupNorm):
    def __init__(self, channels, eps=1e-6):
        super().__init__(min(32, channels // 4), channels, eps=eps)


class Conv(nn.Conv2d):
    """3×3 or 1×1 convolution, after doubling (nearest) or halving (2×2 mean) the resolution where asked."""

    def __init__(self, cin, cout, kernel, up=False, down=False):
        super().__init__(cin, cout, kernel, padding=kernel // 2)
        self.up, self.down = up, down
        if up or down:  # in the weights file; the [1, 1] filter needs no convolution
            self.register_buffer("resample_filter", torch.full([1, 1, 2, 2], 0.25))

    def forward(self, x):
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        if self.down:
            x = F.avg_pool2d(x, 2)
        return super().forward(x)


class Block(nn.Module):
    def __init__(self, cin, cout, emb, up=False, down=False, attention=False, dropout=0.0):
        super().__init__()
        self.cin, self.dropout = cin, dropout
        self.norm0 = Norm(cin)
        self.conv0 = Conv(cin, cout, 3, up, down)
        self.affine = nn.Linear(emb, cout)
        self.norm1 = Norm(cout)
        self.conv1 = Conv(cout, cout, 3)
        self.skip = Conv(cin, cout, 1, up, down) if cin != cout or up or down else None
        self.norm2 = Norm(cout) if attention else None
        if attention:
            self.qkv = Conv(cout, 3 * cout, 1)
            self.proj = Conv(cout, cout, 1)

    def forward(self, x, emb):
        h = self.conv0(F.silu(self.norm0(x)))
        h = F.silu(self.norm1(h + self.affine(emb)[:, :, None, None]))
        h = self.conv1(F.dropout(h, self.dropout, self.training))
        x = (h + (self.skip(x) if self.skip is not None else x)) * math.sqrt(0.5)
        if self.norm2 is not None:
            n, c, height, width = x.shape
            q, k, v = self.qkv(self.norm2(x)).reshape(n, 1, c, 3, height * width).transpose(2, 4).unbind(3)
            a = F.scaled_dot_product_attention(q, k, v)  # [N, 1, HW, C]
            x = (self.proj(a.transpose(2, 3).reshape(n, c, height, width)) + x) * math.sqrt(0.5)
        return x


class SongUNet(nn.Module):
    """DDPM++: positional embedding, standard encoder and decoder."""

    def __init__(self, img_resolution, in_channels, out_channels, model_channels, channel_mult, num_blocks,
                 attn_resolutions, dropout):
        super().__init__()
        emb = model_channels * 4
        self.model_channels = model_channels
        self.map_layer0 = nn.Linear(model_channels, emb)
        self.map_layer1 = nn.Linear(emb, emb)
        levels = [(img_resolution >> i, model_channels * m) for i, m in enumerate(channel_mult)]
        kw = dict(emb=emb, dropout=dropout)

        self.enc, cout, skips = nn.ModuleDict(), in_channels, []
        for level, (res, channels) in enumerate(levels):
            if level == 0:
                self.enc[f"{res}x{res}_conv"] = Conv(cout, model_channels, 3)
                cout = model_channels
            else:
                self.enc[f"{res}x{res}_down"] = Block(cout, cout, down=True, **kw)
            skips.append(cout)
            for i in range(num_blocks):
                self.enc[f"{res}x{res}_block{i}"] = Block(cout, channels, attention=res in attn_resolutions, **kw)
                cout = channels
                skips.append(cout)

        self.dec = nn.ModuleDict()
        for level, (res, channels) in reversed(list(enumerate(levels))):
            if level == len(levels) - 1:
                self.dec[f"{res}x{res}_in0"] = Block(cout, cout, attention=True, **kw)
                self.dec[f"{res}x{res}_in1"] = Block(cout, cout, **kw)
            else:
                self.dec[f"{res}x{res}_up"] = Block(cout, cout, up=True, **kw)
            for i in range(num_blocks + 1):
                attention = i == num_blocks and res in attn_resolutions
                self.dec[f"{res}x{res}_block{i}"] = Block(cout + skips.pop(), channels, attention=attention, **kw)
                cout = channels
        self.out_norm_name, self.out_conv_name = (f"{img_resolution}x{img_resolution}_aux_{n}" for n in ("norm", "conv"))
        self.dec[self.out_norm_name] = Norm(cout)
        self.dec[self.out_conv_name] = Conv(cout, out_channels, 3)

    def forward(self, x, noise):
        half = self.model_channels // 2
        freqs = (1 / 10000) ** (torch.arange(half, dtype=torch.float32, device=x.device) / (half - 1))
        angles = noise[:, None] * freqs
        emb = torch.cat([angles.sin(), angles.cos()], dim=1)
        emb = F.silu(self.map_layer1(F.silu(self.map_layer0(emb))))
        skips = []
        for block in self.enc.values():
            x = block(x, emb) if isinstance(block, Block) else block(x)
            skips.append(x)
        for block in self.dec.values():
            if isinstance(block, Block):
                x = block(x if x.shape[1] == block.cin else torch.cat([x, skips.pop()], dim=1), emb)
        return self.dec[self.out_conv_name](F.silu(self.dec[self.out_norm_name](x)))


class Denoiser(nn.Module):
    """Patch-EDM preconditioning; coordinates are two more input channels."""

    def __init__(self, bf16=False, sigma_data=0.5, **config):
        super().__init__()
        self.bf16, self.sigma_data = bf16, sigma_data
        self.model = SongUNet(**config)

    def forward(self, x, sigma, coords):
        s = self.sigma_data
        scale = (sigma**2 + s**2).sqrt()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            out = self.model(torch.cat([x / scale, coords], dim=1), sigma.log().flatten() / 4).float()
        return x * (s / scale) ** 2 + out * (sigma * s / scale)


def patch_loss(net, images, coords, normal=None, noise=None, sigma_data=0.5):
    """Unreduced loss of arXiv 2304.12526 eq. 5 with EDM's noise distribution and weight; draws are given or made."""
    s = sigma_data
    sigma = (-1.2 + 1.2 * (torch.randn([len(images), 1, 1, 1], device=images.device) if normal is None else normal)).exp()
    noise = torch.randn_like(images) if noise is None else noise
    denoised = net(images + noise * sigma, sigma, coords)
    return (sigma**2 + s**2) / (sigma * s) ** 2 * (denoised - images) ** 2


def read_safetensors(path):
    kinds = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64, "U8": torch.uint8}
    with open(path, "rb") as file:
        data = bytearray(file.read())
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, info in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = info["data_offsets"]
            flat = torch.frombuffer(data[start + begin:start + end], dtype=kinds[info["dtype"]])
            tensors[name] = flat.reshape(info["shape"])
    return tensors


class Peer:
    def __init__(self, setup):
        torch.set_num_threads(setup["threads"])
        self.device = torch.device(setup["device"])
        self.format = torch.channels_last if setup["channels_last"] else torch.contiguous_format
        self.net = Denoiser(bf16=setup["bf16"], **setup["config"])
        self.net.load_state_dict(read_safetensors(setup["weights"]))
        self.net.to(self.device, memory_format=self.format)
        self.call = torch.compile(self.net, dynamic=False) if setup["compile"] else self.net
        self.params = list(self.net.parameters())
        self.ema = [p.detach().clone() for p in self.params]
        self.fused = setup["fused"]
        self.adam = torch.optim.Adam(self.params, lr=1e-4, **({"fused": True} if self.fused else {}))

    def batch(self, path):
        def place(t):
            return t.contiguous(memory_format=self.format) if t.dim() == 4 else t
        return {name: place(t.to(self.device)) for name, t in read_safetensors(path).items()}

    def timed(self, work):
        """Seconds on the wall and of the processor, all threads together."""
        cpu, wall = time.process_time(), self.sync()
        work()
        return self.sync() - wall, time.process_time() - cpu

    def sync(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def loss(self, batch):
        """In evaluation mode, with the given draws: comparable to the last digits of float32."""
        batch = self.batch(batch)
        self.net.eval()
        self.adam.zero_grad()
        loss = patch_loss(self.call, **batch).sum()
        norm = None
        if self.call is self.net:  # a backward pass in evaluation mode would be one more minute of compilation
            (loss / len(batch["images"])).backward()
            norms = [torch.linalg.vector_norm(p.grad) for p in self.params]
            norm = torch.linalg.vector_norm(torch.stack(norms)).item()
        self.net.train()
        self.adam.zero_grad()
        return {"loss": loss.item(), "grad_norm": norm}

    def step(self, images, coords):
        self.adam.zero_grad(set_to_none=True)
        loss = patch_loss(self.call, images, coords).sum() / len(images)
        loss.backward()
        for p in self.params:
            torch.nan_to_num(p.grad, nan=0, posinf=1e5, neginf=-1e5, out=p.grad)
        self.adam.step()
        with torch.no_grad():
            if self.fused:
                torch._foreach_lerp_(self.ema, self.params, 0.001)
            else:
                for average, p in zip(self.ema, self.params):
                    average.lerp_(p, 0.001)
        loss.item()

    def steps(self, batch, count):
        batch = self.batch(batch)
        self.net.train()
        times = [self.timed(lambda: self.step(**batch)) for _ in range(count)]
        return {"wall": [wall for wall, _ in times], "cpu": [cpu for _, cpu in times]}

    @torch.no_grad()
    def difference(self, estimates):
        self.net.eval()
        given = self.batch(estimates)
        found = self.net(given["x"], given["sigma"], given["coords"])
        return {"relative": ((found - given["denoised"]).norm() / given["denoised"].norm()).item()}

    @torch.no_grad()
    def evaluate(self, estimates, count):
        self.net.eval()
        given = self.batch(estimates)
        def work():
            for _ in range(count):
                self.net(given["x"], given["sigma"], given["coords"])
        wall, cpu = self.timed(work)
        return {"wall": wall, "cpu": cpu}

    def memory(self):
        if sys.platform != "linux":
            return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
        with open("/proc/self/status") as status:
            return {"peak_bytes": int(re.search(r"VmHWM:\s+(\d+) kB", status.read()).group(1)) * 1024}


def main():
    if not hasattr(F, "scaled_dot_product_attention"):
        sys.exit(f"torch 2.0 or newer is needed, this is {torch.__version__}")
    warnings.filterwarnings("ignore")
    torch.backends.cudnn.allow_tf32 = False  # float32 means float32
    peer = Peer(json.loads(sys.stdin.readline()))
    print(json.dumps({"torch": torch.__version__, "parameters": sum(p.numel() for p in peer.params)}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(getattr(peer, command.pop("op"))(**command)), flush=True)


if __name__ == "__main__":
    main()
