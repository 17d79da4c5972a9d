export { Adam, type AdamOptions, type AdamPath, AdamW, type NonFiniteGrads } from './adam.js';
