/** A Python with a module that tests compare with; without it they are skipped, and say so. */
import { execFileSync } from 'node:child_process';

/** The Python of the variable PYTHON, or `python3`, where it has the module; else null. */
export function pythonWith(module: string): string | null {
  for (const python of [process.env.PYTHON, 'python3'].filter((p): p is string => Boolean(p))) {
    try {
      execFileSync(python, ['-I', '-c', `import ${module}`], { stdio: 'ignore', timeout: 60_000 });
      return python;
    } catch {
      // Try the next one.
    }
  }
  console.warn(`skipped: no Python with ${module} (set PYTHON)`);
  return null;
}
