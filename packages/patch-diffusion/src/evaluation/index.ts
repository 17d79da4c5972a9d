/** Quality of generated images: Fréchet distance between the Inception features of two sets. */
export { FEATURE_DIM, Inception, type InceptionInput, inceptionInput } from '../networks/inception.js';
export { FeatureAccumulator, type FeatureStatistics, frechetDistance } from './frechet.js';
export { readReferenceStatistics } from './reference.js';
