export { Module, ModuleDict, ModuleList, type ModuleToOptions } from './module.js';
export { type LoadReport, type LoadStateDictOptions, StateDictError } from './state-dict.js';
