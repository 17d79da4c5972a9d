/** Seeds as the command line takes them: `0-15` or `3,7,20-24`. @throws Error where it is no such list */
export function seedsIn(text: string, most: number): number[] {
  const parts = text.split(',').map((part) => /^\s*(\d+)(?:\s*-\s*(\d+))?\s*$/.exec(part));
  const seeds: number[] = [];
  for (const part of parts) {
    if (part === null) throw new Error(`seeds ${text}: give numbers and ranges, such as 0-15 or 3,7`);
    const [first, last] = [Number(part[1]), Number(part[2] ?? part[1])];
    if (last < first) throw new Error(`seeds ${text}: ${part[0].trim()} goes backwards`);
    if (seeds.length + last - first + 1 > most)
      throw new Error(
        `seeds ${text}: at most ${most} images at a time in the page; fewer seeds, or draw on the server`,
      );
    for (let seed = first; seed <= last; seed++) seeds.push(seed);
  }
  return [...new Set(seeds)];
}
