/** How the events of an evaluation are shown. */
import type { EvaluationEvent } from '../evaluation/events.js';
import { countLine } from './progress.js';
import { fetchLine, type LiveLine } from './terminal.js';

export function showEvaluation(event: EvaluationEvent, line: LiveLine): void {
  switch (event.type) {
    case 'warning':
      line.warn(event.message);
      break;
    case 'fetch':
      line.set(fetchLine(event.doneBytes, event.totalBytes));
      break;
    case 'progress': {
      const subject = event.subject === '' ? '' : `${event.subject}: `;
      line.set(`${subject}${countLine(event.what, event.done, event.total)}`);
    }
  }
}
