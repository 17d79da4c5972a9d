#!/usr/bin/env node
/** Starts the command line: checks Node's version before anything that a newer one needs is loaded. */
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 17)) {
  console.error(
    `patch-diffusion needs Node 20.17 or newer; this is ${process.version}. Install a newer Node.`,
  );
  process.exitCode = 1;
} else {
  try {
    const { run } = await import('../dist/cli/main.js');
    process.exitCode = await run(process.argv.slice(2));
  } catch (error) {
    // Node before 22 opens all of a module's imports at once; `run` itself throws nothing.
    if (error.code !== 'EMFILE' && error.code !== 'ENFILE') throw error;
    console.error(
      'error: the limit of open files is too low to load the program; raise it (ulimit -n 1024) and run this again',
    );
    process.exitCode = 1;
  }
}
