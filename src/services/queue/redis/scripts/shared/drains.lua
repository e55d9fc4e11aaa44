-- A server whose memory is full refuses whatever may need more, except what comes behind a write of the same script that needs
-- none (deleting a key that is not there). So what waits is worked off and told, while new jobs are refused.
redis.call('DEL', prefix .. 'nothing')
