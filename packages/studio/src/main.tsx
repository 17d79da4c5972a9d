import { render } from 'preact';
import { App } from './app';
import 'uplot/dist/uPlot.min.css';
import './style.css';
import { askForCurves } from './early-series';
import { restoreTheme } from './theme';

askForCurves();
restoreTheme();
const place = document.getElementById('app');
if (place) render(<App />, place);
