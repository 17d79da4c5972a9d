"""Trains as published, in eager float32 PyTorch: the peer of `npm run reproduce` (recipe published-pytorch).

Algorithm 1 of Patch Diffusion (arXiv 2304.12526) as a PyTorch user writes it, on the network and loss of pytorch.py: each
update draws one patch size, cuts a patch out of each image, and sums the loss over the patch. Adam, the ramp of the learning
rate and the average's half-life are EDM's (arXiv 2206.00364, appendix F.2); the cooldown is that of the other recipes.

Talks JSON lines: the setup first, then one command per line, one answer line each.
  setup  {"config": {...}, "weights": file, "threads": n, "images": file with uint8 "images" [N, C, H, W], "seed": n,
          "batch": n, "real_p": p, "lr": x, "ramp_kimg": x, "halflife_kimg": x, "ramp_ratio": x, "cooldown": share,
          "budget": processor seconds}
  train  {"op": "train", "until": processor seconds, "average": file}  -> {"cpu": s, "kimg": n}, and the averaged weights
"""
import ctypes
import importlib.util
import json
import os
import sys
import time

import torch

spec = importlib.util.spec_from_file_location("pytorch", os.path.join(os.path.dirname(os.path.abspath(__file__)), "pytorch.py"))
pytorch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pytorch)


class Trainer(pytorch.Peer):
    def __init__(self, setup):
        official = {"device": "cpu", "channels_last": False, "bf16": False, "fused": False, "compile": False}
        super().__init__({**setup, **official})
        self.setup, self.cpu, self.nimg = setup, 0.0, 0
        torch.manual_seed(setup["seed"])
        self.images = pytorch.read_safetensors(setup["images"])["images"]
        self.side = self.images.shape[-1]
        self.order = torch.empty(0, dtype=torch.int64)
        p = setup["real_p"]
        self.shares = torch.tensor([(1 - p) * 2 / 5, (1 - p) * 3 / 5, p])
        self.divisors = [4, 2, 1]
        self.mean_multiplier = sum(s * d for s, d in zip(self.shares.tolist(), self.divisors))

    def next_images(self, count):
        while len(self.order) < count:
            self.order = torch.cat([self.order, torch.randperm(len(self.images))])
        chosen, self.order = self.order[:count], self.order[count:]
        return self.images[chosen]

    def patches(self):
        divisor = self.divisors[torch.multinomial(self.shares, 1).item()]
        patch = self.side // divisor
        images = self.next_images(self.setup["batch"] * divisor)
        tops, lefts = torch.randint(0, self.side - patch + 1, (2, len(images)))
        cut = [image[:, t:t + patch, l:l + patch] for image, t, l in zip(images, tops.tolist(), lefts.tolist())]
        at = torch.arange(patch)
        rows, cols = tops[:, None] + at, lefts[:, None] + at
        shape = [len(images), patch, patch]
        places = torch.stack([cols[:, None, :].expand(shape), rows[:, :, None].expand(shape)], dim=1)
        return torch.stack(cut).float() / 127.5 - 1, (places / (self.side - 1) - 0.5) * 2

    def update(self):
        s = self.setup
        images, coords = self.patches()
        self.adam.zero_grad(set_to_none=True)
        loss = pytorch.patch_loss(self.call, images, coords).sum() / len(images)
        loss.backward()
        left = (1 - self.cpu / s["budget"]) / s["cooldown"] if s["cooldown"] else 1
        ramp = self.nimg / (s["ramp_kimg"] * 1000) if s["ramp_kimg"] else 1
        for group in self.adam.param_groups:
            group["lr"] = s["lr"] * min(ramp, 1) * max(min(left, 1), 0)
        for p in self.params:
            torch.nan_to_num(p.grad, nan=0, posinf=1e5, neginf=-1e5, out=p.grad)
        self.adam.step()
        counted = self.setup["batch"] * self.mean_multiplier
        halflife = min(s["halflife_kimg"] * 1000, self.nimg * s["ramp_ratio"])
        beta = 0.5 ** (counted / max(halflife, 1e-8))
        with torch.no_grad():
            for average, p in zip(self.ema, self.params):
                average.copy_(p.lerp(average, beta))
        self.nimg += int(counted)
        loss.item()

    def train(self, until, average):
        self.net.train()
        while self.cpu < until:
            begin = time.process_time()
            self.update()
            self.cpu += time.process_time() - begin
        names = [name for name, _ in self.net.named_parameters()]
        write_safetensors(average, dict(zip(names, self.ema)))
        return {"cpu": self.cpu, "kimg": self.nimg / 1000}


def write_safetensors(path, tensors):
    header, data = {}, bytearray()
    for name, tensor in tensors.items():
        kept = tensor.contiguous()
        values = ctypes.string_at(kept.data_ptr(), kept.numel() * kept.element_size())
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + data)


if __name__ == "__main__":
    trainer = Trainer(json.loads(sys.stdin.readline()))
    print(json.dumps({"parameters": sum(p.numel() for p in trainer.params)}), flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(getattr(trainer, command.pop("op"))(**command)), flush=True)
