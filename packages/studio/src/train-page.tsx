/** Starts a training on the server. */
import { useEffect, useState } from 'preact/hooks';
import { type FormField, getTrainForm, startTraining, type TrainingStart } from './server';

/** Headings whose fields are shown at first. */
const OPEN = new Set(['Data']);
const FIRST = ['data', 'preset', 'durationKimg', 'maxSec', 'desc', 'seed'];

interface Props {
  readonly isAllowed: boolean;
  readonly trainings: readonly TrainingStart[];
}

export function TrainPage({ isAllowed, trainings }: Props) {
  const [fields, setFields] = useState<readonly FormField[]>([]);
  const [values, setValues] = useState<Readonly<Record<string, string>>>({ preset: 'tiny' });
  const [problem, setProblem] = useState<string | null>(null);
  useEffect(() => void getTrainForm().then(setFields, (error: Error) => setProblem(error.message)), []);
  if (!isAllowed)
    return (
      <p class="empty">
        Training takes this machine's processor, so that it must be allowed. Start the studio with:
        <code class="block">npx patch-diffusion studio --allow-train</code>
      </p>
    );
  const start = async (event: Event) => {
    event.preventDefault();
    setProblem(null);
    try {
      await startTraining(values);
    } catch (error) {
      setProblem((error as Error).message);
    }
  };
  const input = (field: FormField) => (
    <Field
      key={field.key}
      field={field}
      value={values[field.key] ?? ''}
      onValue={(value) => setValues({ ...values, [field.key]: value })}
    />
  );
  const first = FIRST.flatMap((key) => fields.find((field) => field.key === key) ?? []);
  const headings = [...new Set(fields.map(({ heading }) => heading))];
  return (
    <form aria-label="A new training" onSubmit={(event) => void start(event)}>
      <div class="card form">
        {first.map(input)}
        <button type="submit" class="primary">
          Start
        </button>
        {problem && (
          <p class="notice" role="alert">
            {problem}
          </p>
        )}
      </div>
      {trainings.map(({ id, what, state, problem: why }) => (
        <p class="notice" key={id} role="status">
          {what}: {state === 'running' ? 'started; it is among the runs once it has begun' : (why ?? 'ended')}
        </p>
      ))}
      {headings.map((heading) => (
        <details key={heading} open={OPEN.has(heading)}>
          <summary>{heading}</summary>
          <div class="card form">
            {fields.filter((field) => field.heading === heading && !FIRST.includes(field.key)).map(input)}
          </div>
        </details>
      ))}
    </form>
  );
}

function Field({
  field,
  value,
  onValue,
}: {
  readonly field: FormField;
  readonly value: string;
  readonly onValue: (value: string) => void;
}) {
  const { key, name, description, allowed, choices, placeholder } = field;
  const id = `option-${key}`;
  return (
    <label for={id} title={`${description} (${allowed})`}>
      --{name}
      {choices === null ? (
        <input
          id={id}
          type="text"
          value={value}
          placeholder={placeholder}
          onInput={(event) => onValue(event.currentTarget.value)}
        />
      ) : (
        <select id={id} value={value} onChange={(event) => onValue(event.currentTarget.value)}>
          <option value="">{placeholder}</option>
          {choices.map((choice) => (
            <option key={choice} value={choice}>
              {choice}
            </option>
          ))}
        </select>
      )}
    </label>
  );
}
