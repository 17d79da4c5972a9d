/** Where the features of images come from: the Inception of FID, or a small classifier of the user's own images. */
import type { Tensor } from '@patch-diffusion/torch';

/** What features were compared. */
export interface FeatureRecord {
  readonly kind: 'inception' | 'classes';
  /** Length of a feature vector. */
  readonly dim: number;
  /** Identifies the weights. */
  readonly sha256: string;
  /** Share of images that the classifier gets right, among those that it was not trained on. */
  readonly accuracy?: number;
}

/** A network that turns images into feature vectors. */
export interface Detector {
  readonly record: FeatureRecord;
  /**
   * @param images uint8 [N, C, H, W]
   * @returns float32 [N, D], on the CPU
   */
  features(images: Tensor): Tensor;
  dispose(): void;
}
