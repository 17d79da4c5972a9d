export { Adam, type AdamOptions, type AdamPath, AdamW, moveAverages } from './adam.js';
export { Muon, type MuonOptions } from './muon.js';
export type { FollowingAverage, Optimizer } from './optimizer.js';
