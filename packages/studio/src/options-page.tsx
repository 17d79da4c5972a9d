/** The options of the selected runs, where they differ, and the commands that make them again. */
import { useState } from 'preact/hooks';
import { colourOf } from './curves';
import { type OptionValue, type RunDetail, type RunSummary, useDetails } from './server';

export function OptionsPage({ runs }: { readonly runs: readonly RunSummary[] }) {
  const details = useDetails(runs);
  const [isAll, setAll] = useState(false);
  const shown = runs.flatMap(({ id }) => details.get(id) ?? []);
  if (shown.length === 0) return <p class="empty">Reading …</p>;
  const rows = optionRows(shown);
  const isOne = shown.length === 1;
  const interesting = rows.filter(({ values, isDefault }) =>
    isOne ? !isDefault : values.some((value) => value !== values[0]),
  );
  const listed = isAll ? rows : interesting;
  return (
    <>
      <form class="controls" aria-label="Which options" onSubmit={(event) => event.preventDefault()}>
        <label>
          <input type="checkbox" checked={isAll} onChange={(event) => setAll(event.currentTarget.checked)} />
          all {rows.length} options
        </label>
        <span class="hint">
          {isAll
            ? ''
            : isOne
              ? 'Shown: what differs from the preset.'
              : 'Shown: what differs between the runs.'}
        </span>
      </form>
      {listed.length === 0 ? (
        <p class="empty">
          {isOne ? 'Every option is that of the preset.' : 'The runs have the same options.'}
        </p>
      ) : (
        <div class="scroll">
          <table class="options card">
            <thead>
              <tr>
                <th scope="col">Option</th>
                {shown.map(({ id }, i) => (
                  <th scope="col" key={id}>
                    <Swatch index={i} /> {id}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {listed.map(({ name, description, values, defaults }) => (
                <tr key={name}>
                  <th scope="row" title={description}>
                    --{name}
                  </th>
                  {values.map((value, i) => (
                    <td key={shown[i].id} class={defaults[i] ? 'default' : ''}>
                      {value ?? '–'}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <h2>Run it again</h2>
      {shown.map((detail) => (
        <Command key={detail.id} {...detail} />
      ))}
    </>
  );
}

interface OptionRow {
  readonly name: string;
  readonly description: string;
  /** Of each run; undefined where a run has no such option. */
  readonly values: readonly (string | undefined)[];
  readonly defaults: readonly boolean[];
  readonly isDefault: boolean;
}

function optionRows(details: readonly RunDetail[]): OptionRow[] {
  const tables = details.map(({ options }) => new Map(options.map((option) => [option.name, option])));
  const all = new Map<string, OptionValue>(details.flatMap(({ options }) => options.map((o) => [o.name, o])));
  return [...all.values()].map(({ name, description }) => {
    const found = tables.map((table) => table.get(name));
    const defaults = found.map((option) => option?.isDefault ?? false);
    return {
      ...{ name, description, defaults, isDefault: defaults.every(Boolean) },
      values: found.map((option) => option?.value),
    };
  });
}

export function Swatch({ index }: { readonly index: number }) {
  return (
    <svg class="swatch" viewBox="0 0 10 10" aria-hidden="true">
      <rect width="10" height="10" rx="3" fill={colourOf(index)} />
    </svg>
  );
}

function Command({ id, command, workingFolder }: RunDetail) {
  const [isCopied, setCopied] = useState(false);
  if (command === '') return null;
  const copy = async () => {
    await navigator.clipboard.writeText(command);
    setCopied(true);
    setTimeout(() => setCopied(false), 2000);
  };
  return (
    <section class="card command" aria-label={`Command of ${id}`}>
      <header>
        <h3>{id}</h3>
        {/* Browsers let secure pages copy only: on another address than this machine's, the text is selected by hand. */}
        {window.isSecureContext && (
          <button type="button" onClick={() => void copy()}>
            {isCopied ? 'Copied' : 'Copy'}
          </button>
        )}
      </header>
      <code class="block">{command}</code>
      {workingFolder && (
        <p class="hint">
          in <code>{workingFolder}</code>
        </p>
      )}
    </section>
  );
}
