"""The differences between asyncio and Trio, and nothing else: tasks, wake-ups, rounds, timers."""
