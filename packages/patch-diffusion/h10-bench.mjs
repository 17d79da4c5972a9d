import * as torch from '@patch-diffusion/torch';
import { createDenoiser } from './dist/diffusion/preconditioning.js';
import { denoisingLoss } from './dist/diffusion/losses.js';
import { TorchRandom } from './dist/random-source.js';
torch.setNumThreads(1);
const [,, cfg='small', side='32', n='16'] = process.argv;
const nets = { tiny: {modelChannels:32, channelMult:[1,2,2], numBlocks:1, attnResolutions:[8], imgResolution:32},
 small:{modelChannels:64, channelMult:[1,2,2], numBlocks:2, attnResolutions:[16], imgResolution:64},
 wide:{modelChannels:128, channelMult:[1,2,2], numBlocks:2, attnResolutions:[16], imgResolution:64}};
const only=process.argv[5]?.split(',');
for (const dtype of ['float32','bfloat16','float16']) for (const mf of ['contiguous','channelsLast']) {
  if (only && !only.includes(dtype)) continue;
  const d = createDenoiser({type:'pedm', network:{type:'SongUNet', inChannels:5, outChannels:3, labelDim:0, dropout:0, ...nets[cfg]}}).to({device:'cpu', memoryFormat: mf}).train();
  d.computeDtype = dtype;
  const S=+side, N=+n;
  const step=()=>torch.scope(()=>{ d.zeroGrad();
    const loss=denoisingLoss(d,{images:torch.randn([N,3,S,S]),positions:torch.zeros([N,2,S,S])},new TorchRandom('cpu'));
    loss.sum().mul(1/N).backward(); return loss.mean().item(); });
  try { step(); const c=process.cpuUsage(); const t=performance.now(); let l; for(let i=0;i<3;i++) l=step(); const u=process.cpuUsage(c);
  console.log(cfg, S, N, dtype, mf, 'cpu ms/step', ((u.user+u.system)/3000).toFixed(0), 'wall', ((performance.now()-t)/3).toFixed(0)); } catch(e){console.log(dtype,mf,e.message.slice(0,200))}
  d.dispose();
}
