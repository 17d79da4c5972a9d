#!/usr/bin/env node
/** Starts the command line: checks Node's version before anything that a newer one needs is loaded. */
const [major, minor] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 17)) {
  console.error(
    `patch-diffusion needs Node 20.17 or newer; this is ${process.version}. Install a newer Node.`,
  );
  process.exitCode = 1;
} else {
  const { run } = await import('../dist/cli/main.js');
  process.exitCode = await run(process.argv.slice(2));
}
