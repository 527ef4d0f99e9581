// The interactive API page. Everything is served by the gateway: no fonts, scripts, proxies or
// telemetry from elsewhere.
'use strict';
Scalar.createApiReference('#app', {
  url: '/openapi.json',
  withDefaultFonts: false,
  telemetry: false,
  hideClientButton: true,
  agent: { disabled: true },
  defaultHttpClient: { targetKey: 'shell', clientKey: 'curl' },
});
