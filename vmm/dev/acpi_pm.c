/* ACPI fixed hardware: PM1a event and control blocks and the 32-bit power management timer. Source:
 * ACPI 6.4, 4.8.3. There are no general purpose events, and no legacy mode to switch from: SCI_EN
 * is always set. The only sleep state is S5. */
#include "vmm/dev/models.h"
#include "vmm/dev/ticks.h"

#include <string.h>

enum {
    STS_TMR = 1 << 0,
    STS_GBL = 1 << 5,
    STS_PWRBTN = 1 << 8,
    STS_SLPBTN = 1 << 9,
    STS_RTC = 1 << 10,
    STS_WAK = 1 << 15
};
enum { EN_WRITABLE = STS_TMR | STS_GBL | STS_PWRBTN | STS_SLPBTN | STS_RTC };
enum { CNT_SCI_EN = 1 << 0, CNT_BM_RLD = 1 << 1, CNT_SLP_TYP = 7 << 10, CNT_SLP_EN = 1 << 13 };

struct acpi_pm {
    uint64_t carries; /* changes of the timer's top bit that the status has taken account of */
    uint16_t status, enable, control;
};

static const struct rv_field fields[] = {
    RV_FIELD(struct acpi_pm, carries),
    RV_FIELD(struct acpi_pm, status),
    RV_FIELD(struct acpi_pm, enable),
    RV_FIELD(struct acpi_pm, control),
    RV_FIELD_END,
};

static void update(struct rv_dev *dev) {
    const struct acpi_pm *s = dev->state;
    rv_dev_irq(dev, RV_GSI_SCI, (s->status & s->enable & EN_WRITABLE) != 0);
    rv_dev_reschedule(dev);
}

/* TMR_STS is set whenever the timer's most significant bit changes (4.8.3.1.1). */
static void sync(struct rv_dev *dev, rv_ns now) {
    struct acpi_pm *s = dev->state;
    uint64_t carries = rv_ticks_at(now, RV_ACPI_PM_HZ) >> 31;
    if (carries == s->carries) return;
    s->carries = carries;
    s->status |= STS_TMR;
    update(dev);
}

static uint64_t pm_read(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size) {
    const struct acpi_pm *s = dev->state;
    sync(dev, rv_dev_now(dev));
    uint32_t v = 0;
    switch (region) {
    case RV_ACPI_PM_EVENT: v = s->status | (uint32_t)s->enable << 16; break;
    case RV_ACPI_PM_CONTROL: v = s->control | CNT_SCI_EN; break;
    case RV_ACPI_PM_TIMER: v = (uint32_t)rv_ticks_at(rv_dev_now(dev), RV_ACPI_PM_HZ); break;
    default: break;
    }
    v >>= 8 * (offset & 3);
    return size == 4 ? v : v & ((1u << (8 * size)) - 1);
}

static void write_control(struct rv_dev *dev, uint16_t v) {
    struct acpi_pm *s = dev->state;
    s->control = v & (CNT_BM_RLD | CNT_SLP_TYP); /* GBL_RLS and SLP_EN read as 0 */
    if ((v & CNT_SLP_EN) && (v & CNT_SLP_TYP) >> 10 == RV_SLP_TYP_S5)
        dev->board->ops->stop(dev->board, RV_STOP_POWEROFF, 0);
}

static void pm_write(struct rv_dev *dev, unsigned region, uint64_t offset, unsigned size,
                     uint64_t value) {
    struct acpi_pm *s = dev->state;
    sync(dev, rv_dev_now(dev));
    unsigned shift = 8 * (offset & 3);
    uint32_t mask = (size == 4 ? 0xffffffffu : (1u << (8 * size)) - 1) << shift;
    uint32_t v = (uint32_t)value << shift;
    if (region == RV_ACPI_PM_EVENT) {
        s->status &= (uint16_t)~v; /* write one to clear */
        if (mask >> 16)
            s->enable = (uint16_t)(((s->enable & ~(mask >> 16)) | (v & mask) >> 16) & EN_WRITABLE);
        update(dev);
    } else if (region == RV_ACPI_PM_CONTROL) {
        write_control(dev, (uint16_t)((s->control & ~mask) | (v & mask)));
    }
}

static rv_ns pm_deadline(const struct rv_dev *dev) {
    const struct acpi_pm *s = dev->state;
    if (!(s->enable & STS_TMR) || (s->status & STS_TMR)) return RV_NEVER;
    return rv_ticks_time((s->carries + 1) << 31, RV_ACPI_PM_HZ);
}

static void pm_reset(struct rv_dev *dev) { memset(dev->state, 0, sizeof(struct acpi_pm)); }

const struct rv_dev_ops rv_dev_acpi_pm = {
    .name = "acpi-pm",
    .version = 1,
    .state_size = sizeof(struct acpi_pm),
    .fields = fields,
    .reset = pm_reset,
    .read = pm_read,
    .write = pm_write,
    .deadline = pm_deadline,
    .tick = sync,
};
