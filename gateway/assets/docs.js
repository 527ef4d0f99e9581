// The interactive API page. Everything is served by the gateway: no fonts, scripts, proxies or
// telemetry from elsewhere.
'use strict';
Scalar.createApiReference('#app', {
  sources: [
    { title: 'Gateway', slug: 'gateway', url: '/openapi.json', default: true },
    { title: 'Signer', slug: 'signer', url: '/assets/signer.openapi.json' },
  ],
  showDeveloperTools: 'never',
  showToolbar: 'never',
  withDefaultFonts: false,
  telemetry: false,
  hideClientButton: true,
  agent: { disabled: true },
  defaultHttpClient: { targetKey: 'shell', clientKey: 'curl' },
});
