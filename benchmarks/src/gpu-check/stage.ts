/** The process of one stage: `stage.js NAME DEVICE`. Results go to standard output, one JSON object a line. */
import { writeSync } from 'node:fs';
import { stageWork } from './stages/index.js';

const [name, device] = process.argv.slice(2);
const work = stageWork[name];
try {
  if (!work) throw new Error(`internal: no stage ${name}`);
  // At once, whatever becomes of this process.
  await work({ device, emit: (result) => void writeSync(1, `${JSON.stringify(result)}\n`) });
  process.exit(0);
} catch (error) {
  const text = error instanceof Error ? error.message : String(error);
  writeSync(2, `stage failed: ${text}\n`);
  process.exit(1);
}
