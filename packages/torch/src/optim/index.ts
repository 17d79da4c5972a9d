export { Adam, type AdamOptions, type AdamPath, AdamW } from './adam.js';
