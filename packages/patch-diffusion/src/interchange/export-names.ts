/** Names of exported files. */

/** Where the network's arguments of an exported state dict are: `weights.pt` → `weights.json`. */
export function configFileOf(file: string): string {
  return `${file.replace(/\.(pt|pth|bin)$/, '')}.json`;
}
