// The player page: lists recent streams, plays one (?stream=NAME) or its recording (?recording=NAME), and says in words what is wrong.
'use strict';

const el = (id) => document.getElementById(id);
const video = el('video');
const asked = new URLSearchParams(location.search);
const recording = asked.get('recording') || '';
const stream = recording ? '' : asked.get('stream') || '';
let hls = null;
let source = '';

const fetchJson = async (path) => {
  const response = await fetch(path, { headers: { accept: 'application/json' } });
  const body = await response.json().catch(() => ({}));
  return { status: response.status, body };
};

function pill(node, text, kind) {
  node.textContent = text;
  node.className = `pill ${kind}`;
}

function cover(title, text) {
  el('cover').hidden = !title;
  el('cover-title').textContent = title || '';
  el('cover-text').textContent = text || '';
}

function fail(text) {
  el('error').hidden = !text;
  el('error').textContent = text || '';
}

const ago = (ms) => {
  const s = Math.max(0, Math.round((Date.now() - ms) / 1000));
  if (s < 90) return `${s} s ago`;
  return s < 5400 ? `${Math.round(s / 60)} min ago` : `${Math.round(s / 3600)} h ago`;
};

async function showReady() {
  try {
    const { status, body } = await fetchJson('/readyz');
    const missing = (body.missing || []).map((m) => `${m.dependency}: ${m.reason}`).join('\n');
    pill(el('ready'), status === 200 ? 'ready' : 'not ready', status === 200 ? 'good' : 'bad');
    el('ready').title = missing || 'A paid job can run now.';
  } catch {
    pill(el('ready'), 'gateway unreachable', 'bad');
  }
}

function listItem(s) {
  const item = document.createElement('li');
  const link = document.createElement('a');
  link.href = `/?stream=${encodeURIComponent(s.id)}`;
  if (s.id === stream) link.setAttribute('aria-current', 'page');
  const name = document.createElement('b');
  name.textContent = s.id;
  const info = document.createElement('span');
  info.textContent = `${s.segments} segments, ${ago(s.last_used_ms)}`;
  link.append(name, info);
  item.append(link);
  return item;
}

async function showStreams() {
  const { body } = await fetchJson('/api/streams');
  const streams = body.streams || [];
  el('streams').replaceChildren(...streams.map(listItem));
  el('no-streams').hidden = streams.length > 0;
}

function rows(renditions) {
  return renditions.map((r) => {
    const row = document.createElement('tr');
    const cells = [
      r.name,
      r.width ? `${r.width}×${r.height}` : '–',
      r.bandwidth ? `${(r.bandwidth / 1e6).toFixed(2)} Mbit/s` : '–',
    ].map((text) => {
      const cell = document.createElement('td');
      cell.textContent = text;
      return cell;
    });
    const cell = document.createElement('td');
    const link = document.createElement('a');
    link.href = r.playlist;
    link.textContent = 'm3u8';
    cell.append(link);
    row.append(...cells, cell);
    return row;
  });
}

async function showStream() {
  const { status, body } = await fetchJson(`/api/streams/${encodeURIComponent(stream)}`);
  if (status === 404) {
    pill(el('state'), 'not found', 'bad');
    cover('There is no stream with this name', 'It may not have begun, or it ended some minutes ago. This page looks again every few seconds.');
    return false;
  }
  if (status !== 200) {
    fail(`The gateway answered ${status}: ${(body.error && body.error.message) || 'no explanation'}`);
    return false;
  }
  const live = Date.now() - body.last_used_ms < 15000;
  pill(el('state'), live ? 'live' : 'ended', live ? 'good' : 'wait');
  el('facts').hidden = false;
  el('f-segments').textContent = body.segments;
  el('f-orchestrator').textContent = body.orchestrator || 'none yet';
  el('f-edge').textContent = ago(body.last_used_ms);
  el('renditions').hidden = body.renditions.length === 0;
  el('renditions').tBodies[0].replaceChildren(...rows(body.renditions));
  if (body.renditions.length === 0) {
    cover('Waiting for the first segment', 'The stream has begun; its first segment is being transcoded.');
    return false;
  }
  return true;
}

function showLevels() {
  const select = el('level');
  const options = hls.levels.map((level, i) => new Option(level.height ? `${level.width}×${level.height}` : level.name || `level ${i}`, i));
  select.replaceChildren(new Option('auto', -1), ...options);
  select.disabled = options.length < 2;
  select.onchange = () => { hls.currentLevel = Number(select.value); };
}

function hlsError(data) {
  const where = data.response ? ` (HTTP ${data.response.code})` : '';
  const words = {
    networkError: `A playlist or segment could not be loaded${where}.`,
    mediaError: 'The browser could not decode this rendition.',
  };
  const text = words[data.type] || `Playback stopped: ${data.details}.`;
  if (!data.fatal) return;
  fail(`${text} Trying again.`);
  if (data.type === 'mediaError') hls.recoverMediaError();
  else setTimeout(() => hls && hls.loadSource(source), 3000);
}

function play() {
  source = recording ? `/recordings/${encodeURIComponent(recording)}/index.m3u8` : `/stream/${encodeURIComponent(stream)}.m3u8`;
  cover('', '');
  if (window.Hls && window.Hls.isSupported()) {
    hls = new window.Hls({ liveSyncDurationCount: 2 });
    hls.on(window.Hls.Events.MANIFEST_PARSED, () => { showLevels(); video.play().catch(() => {}); });
    hls.on(window.Hls.Events.ERROR, (_, data) => hlsError(data));
    hls.on(window.Hls.Events.FRAG_BUFFERED, () => fail(''));
    hls.loadSource(source);
    hls.attachMedia(video);
  } else if (video.canPlayType('application/vnd.apple.mpegurl')) {
    video.src = source;
    video.play().catch(() => {});
  } else {
    fail('This browser can play HLS neither by itself nor through Media Source Extensions.');
  }
}

async function tick() {
  try {
    await Promise.all([showReady(), showStreams()]);
    if (recording && !source) play();
    if (stream) {
      const playable = await showStream();
      if (playable && !source) play();
    }
  } catch (error) {
    fail(`The gateway cannot be reached: ${error.message}`);
  }
  setTimeout(tick, 3000);
}

video.addEventListener('resize', () => { el('f-size').textContent = `${video.videoWidth}×${video.videoHeight}`; });
el('origin').textContent = el('origin2').textContent = location.origin;
if (recording) {
  el('title').textContent = `${recording}, recorded`;
  cover('', '');
} else if (stream) {
  el('title').textContent = stream;
  el('f-size').textContent = 'not yet';
  cover('Looking for the stream', '');
} else {
  cover('No stream chosen', 'Choose a recent stream on the right, or open one by name.');
}
tick();
