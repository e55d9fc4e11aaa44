/** What hostile or odd names resolve to. */
export const names: Record<string, string[]> = {
  'private.example.com': ['10.0.0.5'],
  'loopback.example.com': ['127.0.0.1'],
  'metadata.example.com': ['169.254.169.254'],
  'six.example.com': ['::1'],
  'mapped.example.com': ['::ffff:10.0.0.1'],
  'mixed.example.com': ['93.184.216.34', '192.168.0.1'],
  'nat64.example.com': ['64:ff9b::a00:1'],
  'cgnat.example.com': ['100.64.1.1'],
  'zero.example.com': ['0.0.0.0'],
  'azure.example.com': ['168.63.129.16'],
  'empty.example.com': [],
};
