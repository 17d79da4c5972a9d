/** Inert stand-ins for the Python objects that checkpoints hold. */

/** A module: an official persistent object, or a container class of PyTorch. Its source text is not kept. */
export class ModuleRecord {
  constructor(
    /** `SongUNet`, `ModuleDict`, … */
    readonly className: string,
    /** Its attributes, by name. */
    public state: ReadonlyMap<unknown, unknown> = new Map(),
  ) {}
}

/** A NumPy element type, on its way to a number. */
export class NumpyType {
  constructor(readonly code: string) {}
}
